//! The figure of `cargo demo`: requests over time by cluster, one panel a run, all on the same axes.
//!
//! It is drawn once, as SVG; the PNG is that SVG rendered. The font is embedded, so that a machine without fonts draws
//! the same.

use std::ops::Range;

use anyhow::{Context, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use resvg::{tiny_skia, usvg};

use crate::demo::result::Counts;

const SIZE: (u32, u32) = (1200, 470);
const PNG_SCALE: f32 = 2.0;
/// What a viewer uses where it has no such font follows in the list.
const FONT: &str = "DejaVu Sans, Verdana, sans-serif";

// Of Okabe and Ito's palette: apart from each other for the colour-blind, and in grey.
const HOME: RGBColor = RGBColor(0, 114, 178);
const PEER: RGBColor = RGBColor(240, 173, 40);
const FAILED: RGBColor = RGBColor(20, 20, 20);
const INK: RGBColor = RGBColor(30, 30, 30);
const AXIS: RGBColor = RGBColor(110, 110, 110);
const GRID: RGBColor = RGBColor(225, 225, 225);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// What is drawn.
pub struct Figure<'a> {
    /// Names of the home and of the peer cluster, for the legend
    pub clusters: (&'a str, &'a str),
    /// Parallel connections in each phase
    pub clients: &'a [u32],
    /// Length of a phase, in seconds
    pub seconds: u32,
    /// From left to right
    pub panels: &'a [Panel<'a>],
}

/// One run.
pub struct Panel<'a> {
    /// What was run
    pub title: &'a str,
    /// What it came to
    pub outcome: &'a str,
    /// Requests in each second
    pub per_second: &'a [Counts],
}

/// Draws the figure as an SVG document.
pub fn svg(figure: &Figure) -> Result<String> {
    let mut document = String::new();
    draw(figure, &mut document).context("cannot draw the figure")?;
    Ok(document)
}

/// Renders an SVG document of [`svg`] as a PNG file's content.
pub fn png(svg: &str) -> Result<Vec<u8>> {
    let mut options = usvg::Options::default();
    options
        .fontdb_mut()
        .load_font_data(dejavu::sans::regular().to_vec());
    options
        .fontdb_mut()
        .load_font_data(dejavu::sans::bold().to_vec());
    let tree = usvg::Tree::from_str(svg, &options).context("cannot read the figure's SVG")?;
    let (width, height) = (SIZE.0 as f32 * PNG_SCALE, SIZE.1 as f32 * PNG_SCALE);
    let mut pixels = tiny_skia::Pixmap::new(width as u32, height as u32)
        .context("cannot hold the figure's pixels")?;
    resvg::render(
        &tree,
        tiny_skia::Transform::from_scale(PNG_SCALE, PNG_SCALE),
        &mut pixels.as_mut(),
    );
    pixels
        .encode_png()
        .context("cannot encode the figure as PNG")
}

fn draw(figure: &Figure, document: &mut String) -> Result<()> {
    let root = SVGBackend::with_string(document, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (plots, legend) = root.split_vertically(SIZE.1 - 44);
    let top = top_of_axis(figure.panels);
    for (panel, area) in figure
        .panels
        .iter()
        .zip(plots.split_evenly((1, figure.panels.len().max(1))))
    {
        draw_panel(figure, panel, top, &area)?;
    }
    draw_legend(figure, &legend)?;
    root.present()?;
    Ok(())
}

/// The same for all panels: the highest second of any, and a little air.
fn top_of_axis(panels: &[Panel]) -> f64 {
    let highest = panels
        .iter()
        .flat_map(|p| p.per_second)
        .map(Counts::sum)
        .max()
        .unwrap_or(0);
    (highest.max(1) as f64 * 1.06).ceil()
}

fn draw_panel(figure: &Figure, panel: &Panel, top: f64, area: &Area) -> Result<()> {
    let (head, plot) = area.split_vertically(82);
    let end = f64::from(figure.seconds) * figure.clients.len() as f64;
    let mut chart = ChartBuilder::on(&plot)
        .margin_right(24)
        .margin_left(10)
        .x_label_area_size(46)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..end, 0.0..top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .max_light_lines(0)
        .bold_line_style(GRID)
        .axis_style(AXIS)
        .x_labels(8)
        .y_labels(7)
        .x_label_formatter(&|v| format!("{v:.0}"))
        .y_label_formatter(&|v| format!("{v:.0}"))
        .label_style((FONT, 15).into_font().color(&INK))
        .axis_desc_style((FONT, 16).into_font().color(&INK))
        .x_desc("time (s)")
        .y_desc("requests per second")
        .draw()?;
    let bars = panel
        .per_second
        .iter()
        .enumerate()
        .flat_map(|(second, counts)| bars(second as f64, counts));
    chart.draw_series(bars.map(|(corners, color)| Rectangle::new(corners, color.filled())))?;
    for transition in 1..figure.clients.len() {
        let at = transition as f64 * f64::from(figure.seconds);
        chart.draw_series(DashedLineSeries::new(
            [(at, 0.0), (at, top)],
            7,
            5,
            INK.stroke_width(2),
        ))?;
    }

    let (plot_x, _) = chart.plotting_area().get_pixel_range();
    let (area_x, _) = area.get_pixel_range();
    let x = (plot_x.start - area_x.start)..(plot_x.end - area_x.start);
    let left = Pos::new(HPos::Left, VPos::Center);
    head.draw(&Text::new(
        panel.title,
        (x.start, 20),
        (FONT, 19)
            .into_font()
            .style(FontStyle::Bold)
            .color(&INK)
            .pos(left),
    ))?;
    head.draw(&Text::new(
        panel.outcome,
        (x.start, 44),
        (FONT, 16).into_font().color(&INK).pos(left),
    ))?;
    draw_phases(figure.clients, x, &head)
}

/// The number of connections over each phase, above the plot, where no data is.
fn draw_phases(clients: &[u32], x: Range<i32>, head: &Area) -> Result<()> {
    let width = (x.end - x.start) as f64 / clients.len() as f64;
    // With many phases only the numbers fit.
    let roomy = width > 130.0;
    for (phase, &n) in clients.iter().enumerate() {
        let text = match (roomy, n) {
            (false, _) => n.to_string(),
            (true, 1) => "1 connection".to_owned(),
            (true, _) => format!("{n} connections"),
        };
        let middle = x.start + ((phase as f64 + 0.5) * width) as i32;
        let style = (FONT, 14)
            .into_font()
            .color(&AXIS)
            .pos(Pos::new(HPos::Center, VPos::Center));
        head.draw(&Text::new(text, (middle, 70), style))?;
    }
    Ok(())
}

type Bar = ([(f64, f64); 2], RGBColor);

/// One second's requests on top of each other: home, peer, failed. A count of 0 has no bar.
fn bars(second: f64, counts: &Counts) -> impl Iterator<Item = Bar> + use<> {
    let (left, right) = (second + 0.07, second + 0.93);
    let stack = [
        (counts.home, HOME),
        (counts.peer, PEER),
        (counts.failed, FAILED),
    ];
    stack
        .into_iter()
        .scan(0.0, move |base, (count, color)| {
            let bottom = *base;
            *base += count as f64;
            Some((count > 0, ([(left, bottom), (right, *base)], color)))
        })
        .filter_map(|(any, bar)| any.then_some(bar))
}

fn draw_legend(figure: &Figure, area: &Area) -> Result<()> {
    let (home, peer) = figure.clusters;
    let entries = [
        (Some(HOME), format!("answered by {home} (home)")),
        (Some(PEER), format!("answered by {peer} (peer)")),
        (Some(FAILED), "failed".to_owned()),
        (None, "transition".to_owned()),
    ];
    // About as wide as the font: close enough to centre the whole.
    let width = |text: &str| 30 + 9 * text.chars().count() as i32;
    let gap = 44;
    let total: i32 = entries.iter().map(|(_, text)| width(text) + gap).sum();
    let style = (FONT, 16)
        .into_font()
        .color(&INK)
        .pos(Pos::new(HPos::Left, VPos::Center));
    let mut x = (SIZE.0 as i32 - total + gap) / 2;
    for (color, text) in entries {
        match color {
            Some(color) => area.draw(&Rectangle::new([(x, 8), (x + 22, 24)], color.filled()))?,
            None => {
                for y in [4, 14, 24] {
                    area.draw(&PathElement::new(
                        [(x + 16, y), (x + 16, y + 6)],
                        INK.stroke_width(2),
                    ))?;
                }
            }
        }
        let next = x + width(&text) + gap;
        area.draw(&Text::new(text, (x + 30, 17), style.clone()))?;
        x = next;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
        let panel = |title, per_second| Panel {
            title,
            outcome: "<what it came to> & more",
            per_second,
        };
        let panels = [
            panel("(a) with", &filter[..]),
            panel("(b) without", &origin[..]),
        ];
        svg(&Figure {
            clusters: ("iotcloudserve", "gke"),
            clients,
            seconds: 3,
            panels: &panels,
        })
        .unwrap()
    }

    #[test]
    fn bars_stand_on_each_other_and_nothing_is_no_bar() {
        let bars: Vec<_> = bars(4.0, &counts(10, 0, 5)).collect();
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
        let panel = |per_second| Panel {
            title: "",
            outcome: "",
            per_second,
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
}
