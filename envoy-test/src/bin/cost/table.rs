//! What was counted, to read, and what of it is more than allowed.

use super::plan::Plan;
use super::variant::Variant;

/// The variant that the others are compared with.
const YARDSTICK: usize = 1;

/// What one variant cost.
pub struct Row {
    pub variant: Variant,
    /// Instructions per request, by the path.
    pub counts: Vec<f64>,
    /// Instructions per second without requests.
    pub at_rest: f64,
}

/// Shows `rows`; with `bounds`, also what each may cost.
pub fn print(rows: &[Row], plan: &Plan, bounds: bool) {
    println!(
        "Instructions per proxied request: one worker, HTTP/1.1, one connection, median of {} rounds of {} requests.",
        plan.rounds, plan.requests
    );
    for (column, (path, upstream)) in plan.paths.iter().enumerate() {
        println!("\n{path}: {upstream}");
        println!(
            "{:<40}{:>14}{:>12}{:>12}{}",
            "",
            "instructions",
            "to empty",
            "to none",
            if bounds { "     at most" } else { "" }
        );
        for row in rows {
            let ratio = |to| ratio(rows, row, to, column);
            let (Some(count), Some(to_empty), Some(to_none)) =
                (row.counts.get(column), ratio(YARDSTICK), ratio(0))
            else {
                continue;
            };
            let most = row
                .variant
                .most
                .filter(|_| bounds && row.variant.to.is_none());
            let most = most.map_or_else(String::new, |most| format!("{most:>12.3}"));
            let name = row.variant.name;
            println!("{name:<40}{count:>14.0}{to_empty:>12.3}{to_none:>12.3}{most}");
        }
    }
    for row in rows.iter().filter(|row| row.variant.to.is_some()) {
        let (name, to) = (row.variant.name, yardstick(rows, row));
        let of = rows.get(to).map_or("", |row| row.variant.name);
        for (column, (path, _)) in plan.paths.iter().enumerate() {
            if let Some(ratio) = ratio(rows, row, to, column).filter(|_| name != of) {
                let most = row.variant.most.filter(|_| bounds);
                let most = most.map_or_else(String::new, |most| format!(", at most {most:.3}"));
                println!("\n{path}: {name}: {ratio:.3} of {of}{most}");
            }
        }
    }
    println!("\nA second at rest, on two VMs (the worker's and the main thread's)");
    for row in rows {
        println!("{:<40}{:>14.0}", row.variant.name, row.at_rest);
    }
}

/// A line for each row that costs more than it may on the first path, which is the gate's only one.
pub fn too_dear(rows: &[Row]) -> Vec<String> {
    let line = |row: &Row| {
        let most = row.variant.most?;
        let to = yardstick(rows, row);
        let (yardstick, ratio) = (rows.get(to)?.variant.name, ratio(rows, row, to, 0)?);
        (ratio > most).then(|| {
            format!(
                "{} costs {ratio:.3} of {yardstick}; at most {most:.3} is allowed (envoy-test/src/bin/cost/variant.rs)",
                row.variant.name
            )
        })
    };
    rows.iter().filter_map(line).collect()
}

/// The row that `row` is compared with.
fn yardstick(rows: &[Row], row: &Row) -> usize {
    let named = |to| rows.iter().position(|other| other.variant.name == to);
    row.variant.to.and_then(named).unwrap_or(YARDSTICK)
}

/// What `row` costs to the row number `to`.
fn ratio(rows: &[Row], row: &Row, to: usize, column: usize) -> Option<f64> {
    Some(row.counts.get(column)? / rows.get(to)?.counts.get(column)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn variant(name: &'static str, most: Option<f64>) -> Variant {
        Variant {
            name,
            filters: Value::Null,
            proof: None,
            most,
            to: None,
        }
    }

    #[test]
    fn only_a_row_above_its_bound_is_too_dear() {
        let variants = [
            (variant("no filter", None), 900.0),
            (variant("the empty filter", None), 1000.0),
            (variant("one within its bound", Some(1.02)), 1020.0),
            (variant("one above", Some(1.075)), 1081.0),
        ];
        let rows: Vec<Row> = variants
            .into_iter()
            .map(|(variant, count)| Row {
                variant,
                counts: vec![count],
                at_rest: 0.0,
            })
            .collect();
        assert_eq!(
            too_dear(&rows),
            [
                "one above costs 1.081 of the empty filter; at most 1.075 is allowed (envoy-test/src/bin/cost/variant.rs)"
            ]
        );
    }
}
