//! The rules that a JSON Schema cannot say.

/// A rule that concerns more than a single value, so that it cannot be in the schema.
pub struct Rule {
    /// The name of the rule, for tests.
    pub name: &'static str,
    /// The sentence on the page.
    pub says: &'static str,
    /// A part of the message of a fault that breaks the rule.
    pub fault: &'static str,
}

const fn rule(name: &'static str, says: &'static str, fault: &'static str) -> Rule {
    Rule { name, says, fault }
}

/// All rules by which the filter refuses configurations that the schema accepts.
pub const RULES: [Rule; 16] = [
    rule(
        "host twice",
        "Two services must not have the same `host`. Upper and lower case make no difference.",
        "is there twice; merge the two services",
    ),
    rule(
        "star alone",
        "A service with `host: \"*\"` must be the only service.",
        "\"*\" may only stand alone",
    ),
    rule(
        "host of two",
        "The `host` of a peer must not be the `host` of another service or of a peer of another service.",
        "give each service's peer a host of its own",
    ),
    rule(
        "peers alike",
        "Two peers of a service must not have the same `name`, nor the same `host` and `subset`.",
        "too; give each peer one of its own",
    ),
    rule(
        "host of the peer",
        "The `host` of a peer without a `subset` must differ from the `host` of its own service. A peer needs a `host` if that of its service is `\"*\"`.",
        "not the home service's own",
    ),
    rule(
        "name of the peer",
        "The `name` of a peer must differ from `cluster`.",
        "must be another cluster's name",
    ),
    rule(
        "overflow",
        "`overflow: eject` needs a limit, and an `outlierDetection` in which some errors eject.",
        "eject wants a limit to overflow",
    ),
    rule(
        "minErrorPercent",
        "`minErrorPercent` needs an `outlierDetection` in which some errors eject.",
        "wants errors that eject",
    ),
    rule(
        "exact and prefix",
        "A text of `spill.match` is compared by `exact` or by `prefix`, not by both.",
        "match has exact and prefix of",
    ),
    rule(
        "header's name",
        "The names in `headers` and `withoutHeaders` have 1 to 63 letters, digits, `-`, `.` or `_`.",
        "no header's name",
    ),
    rule(
        "header or cookie",
        "`spill.consistentHash` has the field `httpHeaderName`, or `httpCookie` with its `name` alone, and no other.",
        "consistentHash wants",
    ),
    rule(
        "least duration",
        "Durations are at least one millisecond, unless the table says that they may be 0.",
        "must be at least 1ms",
    ),
    rule(
        "whole milliseconds",
        "Durations are whole milliseconds, unless the table says that they may have a fraction.",
        "must be whole milliseconds",
    ),
    rule(
        "longest duration",
        "Durations are at most 2562047h47m16.854775807s, the longest that Go can express. A duration of more than a year is taken as a year.",
        "must be at most 2562047h",
    ),
    rule(
        "field twice",
        "A field must not occur twice in an object.",
        "is there twice; remove one of them",
    ),
    rule(
        "size",
        "The configuration has at most 16 MiB, and at most 127 levels of nesting.",
        "bytes; name fewer services",
    ),
];
