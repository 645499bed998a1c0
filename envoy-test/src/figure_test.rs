use super::*;

fn counts(home: u64, peer: u64, failed: u64) -> Counts {
    Counts { home, peer, failed }
}

fn example(clients: &[u32]) -> String {
    let filter: Vec<_> = (0..3 * clients.len())
        .map(|s| counts(10, if s / 3 == 1 { 20 } else { 0 }, 0))
        .collect();
    let origin: Vec<_> = (0..3 * clients.len())
        .map(|s| counts(10, 0, if s / 3 == 1 { 5 } else { 0 }))
        .collect();
    let panel = |title, bars| Panel {
        title,
        outcome: "<what it came to> & more",
        bars,
        spans: &[],
    };
    let panels = [
        panel("(a) with", &filter[..]),
        panel("(b) without", &origin[..]),
    ];
    let phases: Vec<Phase> = clients
        .iter()
        .map(|n| Phase {
            label: format!("{n} connections"),
            short: n.to_string(),
            seconds: 3,
        })
        .collect();
    svg(&Figure {
        clusters: ("iotcloudserve", "gke"),
        failed: "failed",
        phases: &phases,
        bar: 1.0,
        per_bar: "requests per second",
        panels: &panels,
    })
    .unwrap()
}

#[test]
fn bars_stand_on_each_other_and_nothing_is_no_bar() {
    let bars: Vec<_> = bars(4.0, 1.0, &counts(10, 0, 5)).collect();
    assert_eq!(bars.len(), 2);
    assert_eq!((bars[0].0[0].1, bars[0].0[1].1), (0.0, 10.0));
    assert_eq!(
        (bars[1].0[0].1, bars[1].0[1].1, bars[1].1),
        (10.0, 15.0, FAILED)
    );
}

#[test]
fn panels_share_the_axis_of_the_highest() {
    let (low, high) = ([counts(10, 0, 0)], [counts(10, 20, 0)]);
    let panel = |bars| Panel {
        title: "",
        outcome: "",
        bars,
        spans: &[],
    };
    assert_eq!(top_of_axis(&[panel(&low), panel(&high)]), 32.0);
    assert_eq!(top_of_axis(&[panel(&[])]), 2.0);
}

#[test]
fn the_svg_says_who_and_when() {
    let svg = example(&[1, 3, 1]);
    for text in [
        "iotcloudserve (home)",
        "gke (peer)",
        "\nfailed\n",
        "3 connections",
        "time (s)",
        "&amp; more",
    ] {
        assert!(svg.contains(text), "{text}");
    }
    let of = |color: &str| svg.matches(&format!("fill=\"{color}\"")).count();
    // A bar for each second that has one, and the legend's.
    assert_eq!(
        (of("#0072B2"), of("#F0AD28"), of("#141414")),
        (18 + 1, 3 + 1, 3 + 1)
    );
}

#[test]
fn the_png_has_text_without_the_machines_fonts() {
    let with = png(&example(&[1, 3, 1])).unwrap();
    let without = png(&example(&[1, 3, 1]).replace("3 connections", "")).unwrap();
    assert_eq!(with[..8], *b"\x89PNG\r\n\x1a\n");
    assert_ne!(with, without, "text leaves no mark");
}

#[test]
fn a_shaded_stretch_has_a_label_where_there_is_room() {
    let bars = [counts(10, 0, 0); 6];
    let span = |from, until, label: &str, shade| Span {
        from,
        until,
        label: label.to_owned(),
        shade,
    };
    let spans = [
        span(1.0, 3.0, "ejected 2 s", Shade::Ejected),
        span(3.0, 3.1, "a ramp that is too short", Shade::Ramp),
    ];
    let phases = ["home is well", "home fails"].map(|label| Phase {
        label: label.to_owned(),
        short: String::new(),
        seconds: 3,
    });
    let panel = Panel {
        title: "",
        outcome: "",
        bars: &bars,
        spans: &spans,
    };
    let svg = svg(&Figure {
        clusters: ("iotcloudserve", "gke"),
        failed: "answered 500 by home",
        phases: &phases,
        bar: 1.0,
        per_bar: "requests per second",
        panels: &[panel],
    })
    .unwrap();
    for text in ["ejected 2 s", "home fails", "answered 500 by home"] {
        assert!(svg.contains(text), "{text}");
    }
    assert!(!svg.contains("too short"));
    for shade in ["#FCEED0", "#DAEAF6"] {
        // The stretch, and the legend's.
        let fill = format!("fill=\"{shade}\"");
        assert_eq!(svg.matches(&fill).count(), 2, "{shade}");
    }
}
