use std::collections::BTreeSet;

use super::band::{FAILED, HOME, PEERS};
use super::*;

fn counts(home: u64, peer: u64, failed: u64) -> Vec<u64> {
    vec![home, peer, failed]
}

fn of_one_peer(failed: &str) -> Vec<Band> {
    bands("iotcloudserve", &["gke"], failed)
}

fn example(clients: &[u32]) -> Drawn {
    of_connections(clients, "connections")
}

fn of_connections(clients: &[u32], what: &str) -> Drawn {
    let filter: Vec<_> = (0..3 * clients.len())
        .map(|s| counts(10, if s / 3 == 1 { 20 } else { 0 }, 0))
        .collect();
    let origin: Vec<_> = (0..3 * clients.len())
        .map(|s| counts(10, 0, if s / 3 == 1 { 5 } else { 0 }))
        .collect();
    let panel = |title, bars, most| Panel {
        title,
        outcome: "<what it came to> & more",
        bars,
        spans: &[],
        in_flight: Some(InFlight { most, limit: 2 }),
    };
    let panels = [
        panel("(a) with", &filter[..], &[2, 0, 1][..]),
        panel("(b) without", &origin[..], &[0, 3, 0][..]),
    ];
    let phases: Vec<Phase> = clients
        .iter()
        .map(|n| Phase {
            label: format!("{n} {what}"),
            short: n.to_string(),
            seconds: 3,
        })
        .collect();
    draw(&Figure {
        bands: &of_one_peer("failed"),
        change: "load changes",
        phases: &phases,
        bar: 1.0,
        per_bar: "requests per second",
        panels: &panels,
    })
    .unwrap()
}

#[test]
fn bars_stand_on_each_other_and_nothing_is_no_bar() {
    let bars: Vec<_> = bars(4.0, 1.0, &of_one_peer("failed"), &counts(10, 0, 5)).collect();
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
        in_flight: None,
    };
    assert_eq!(top_of_axis(&[panel(&low), panel(&high)]), 32.0);
    assert_eq!(top_of_axis(&[panel(&[])]), 2.0);
}

#[test]
fn the_svg_says_who_and_when() {
    let svg = example(&[1, 3, 1]).svg;
    for text in [
        "iotcloudserve (home)",
        "gke (peer)",
        "\nfailed\n",
        "3 connections",
        "time (s)",
        "\nload changes\n",
        "\nlimit 2\n",
        "in flight at home, the most in each second",
        "&amp; more",
    ] {
        assert!(svg.contains(text), "{text}");
    }
    let of = |color: &str| svg.matches(&format!("fill=\"{color}\"")).count();
    // A bar for each second that has one, and the legend's.
    assert_eq!(
        (of("#0072B2"), of("#F0AD28"), of("#141414")),
        (18 + 3 + 1, 3 + 1, 3 + 1)
    );
    // A line in each panel, and the legend's.
    let limits = svg.matches("stroke=\"#D55E00\"").count();
    assert_eq!(limits, 2 + 1);
}

/// The rectangles of this colour: left, top and bottom of each, in pixels.
fn rectangles(svg: &str, color: &str) -> Vec<(i32, i32, i32)> {
    let of_color = svg
        .lines()
        .filter(|line| line.starts_with("<rect ") && line.contains(&format!("fill=\"{color}\"")));
    let of = |line: &str, name: &str| -> i32 {
        let (_, rest) = line.split_once(&format!(" {name}=\"")).unwrap();
        rest.split('"').next().unwrap().parse().unwrap()
    };
    of_color
        .map(|line| {
            let y = of(line, "y");
            (of(line, "x"), y, y + of(line, "height"))
        })
        .collect()
}

#[test]
fn what_is_in_flight_stands_below_its_second_and_crosses_the_limit_where_it_did() {
    let svg = example(&[1, 3, 1]).svg;
    let limits: Vec<i32> = svg
        .lines()
        .filter(|line| line.starts_with("<polyline") && line.contains("#D55E00"))
        .map(|line| {
            let (_, points) = line.split_once("points=\"").unwrap();
            let (_, y) = points.split_once(' ').unwrap().0.split_once(',').unwrap();
            y.parse().unwrap()
        })
        .collect();
    let [left, right, _legend] = limits[..] else {
        panic!("{limits:?}")
    };
    let home = rectangles(&svg, "#0072B2");
    // All on one of two lines; and the legend's.
    let floors: BTreeSet<i32> = home.iter().map(|&(_, _, bottom)| bottom).collect();
    let [above, below, _legend] = floors.into_iter().collect::<Vec<_>>()[..] else {
        panic!("{home:?}")
    };
    let on = |floor: i32| home.iter().filter(move |(_, _, bottom)| *bottom == floor);
    let in_flight: Vec<_> = on(below).collect();
    let tops: Vec<i32> = in_flight.iter().map(|(_, top, _)| *top).collect();
    let [two, one, three] = tops[..] else {
        panic!("{home:?}")
    };
    assert!(
        (two - left).abs() <= 1 && one > left + 10 && three < right - 10,
        "{tops:?} {limits:?}"
    );
    // The same second, the same place.
    for (x, ..) in &in_flight {
        assert!(on(above).any(|(other, ..)| other == x), "{x}: {home:?}");
    }
}

#[test]
fn the_figure_is_as_high_as_what_is_in_it() {
    let with = example(&[1, 3, 1]);
    let height = SIZE.1 + in_flight::HEIGHT - (TIME - NO_TIME);
    let said = format!("<svg width=\"{}\" height=\"{height}\"", SIZE.0);
    assert!(with.svg.starts_with(&said), "{said}");
    // Time is said once in each panel.
    assert_eq!(with.svg.matches("time (s)").count(), 2);
    // A PNG says its height at this place.
    let pixels = height * canvas::SCALE as u32;
    assert_eq!(with.png[20..24], pixels.to_be_bytes());
}

#[test]
fn the_png_has_text_without_the_machines_fonts() {
    let with = example(&[1, 3, 1]).png;
    let without = of_connections(&[1, 3, 1], "").png;
    assert_eq!(with[..8], *b"\x89PNG\r\n\x1a\n");
    assert_ne!(with, without, "text leaves no mark");
}

#[test]
fn the_png_has_the_colour_of_each_bar_where_the_svg_has_the_bar() {
    let Drawn { svg, png } = example(&[1, 3, 1]);
    let pixels = tiny_skia::Pixmap::decode_png(&png).unwrap();
    for (text, color) in [
        ("#0072B2", HOME),
        ("#F0AD28", PEERS[0]),
        ("#141414", FAILED),
    ] {
        for (left, _, bottom) in rectangles(&svg, text) {
            // Inside of it, above what it stands on.
            let place = |at: i32| (at as f32 * canvas::SCALE) as u32;
            let pixel = pixels.pixel(place(left + 2), place(bottom - 2)).unwrap();
            let pixel = (pixel.red(), pixel.green(), pixel.blue());
            assert_eq!(pixel, color.rgb(), "{text} at {left}, {bottom}");
        }
    }
}

#[test]
fn a_shaded_stretch_has_a_label_where_there_is_room() {
    let bars = vec![counts(10, 0, 0); 6];
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
        in_flight: None,
    };
    let svg = draw(&Figure {
        bands: &of_one_peer("answered 500 by home"),
        change: "home changes",
        phases: &phases,
        bar: 1.0,
        per_bar: "requests per second",
        panels: &[panel],
    })
    .unwrap()
    .svg;
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

#[test]
fn each_peer_has_a_colour_of_its_own() {
    let names = ["gke", "eks", "aks", "oke", "doks"];
    let bands = bands("iotcloudserve", &names, "failed");
    let colors: BTreeSet<_> = bands.iter().map(|band| band.color.rgb()).collect();
    assert_eq!(colors.len(), 2 + MOST_PEERS);
    let bars: Vec<_> = bars(0.0, 1.0, &bands, &[4, 2, 0, 3, 0, 0, 1]).collect();
    let tops: Vec<f64> = bars.iter().map(|(corners, _)| corners[1].1).collect();
    assert_eq!(tops, [4.0, 6.0, 9.0, 10.0]);
    assert_eq!(bars[2].1, bands[3].color);
}

#[test]
fn the_legend_of_the_most_peers_has_room_and_begins_where_it_may() {
    let names = ["gke", "eks", "aks", "oke", "doks"];
    let svg = draw(&Figure {
        bands: &bands("iotcloudserve", &names, "failed"),
        change: "load or peer changes",
        phases: &[],
        bar: 1.0,
        per_bar: "",
        panels: &[Panel {
            title: "",
            outcome: "",
            bars: &[],
            spans: &[],
            in_flight: Some(InFlight {
                most: &[],
                limit: 1,
            }),
        }],
    })
    .unwrap()
    .svg;
    let first = rectangles(&svg, "#0072B2");
    let mut last = svg
        .lines()
        .filter(|line| line.starts_with("<polyline") && line.contains("#D55E00"));
    let last = last.next_back().unwrap();
    let (_, points) = last.split_once("points=\"").unwrap();
    let x: i32 = points.split(',').next().unwrap().parse().unwrap();
    // "limit" is about 68 pixels wide with its mark.
    assert!(
        first.iter().all(|&(left, _, _)| left >= MARGIN),
        "{first:?}"
    );
    assert!(x + 68 <= SIZE.0 as i32 - MARGIN, "{x}");
}
