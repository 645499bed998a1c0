//! The figure of `cargo demo`: requests over time by cluster, one panel a run, all on the same axes, and where there is a
//! limit, what home had in flight against it.
//!
//! It is drawn once, as SVG and as PNG.

mod band;
mod canvas;
mod in_flight;

use std::ops::Range;

use anyhow::{Context, Result};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

pub use band::{Band, MOST_PEERS, bands};
use canvas::Canvas;
pub use in_flight::InFlight;

/// Without what is in flight.
const SIZE: (u32, u32) = (1200, 470);
/// Heights of an axis of time, and of one that says nothing.
const TIME: u32 = 46;
const NO_TIME: u32 = 8;
/// The least space at both sides of the legend, in pixels.
const MARGIN: i32 = 16;
/// What a viewer uses where it has no such font follows in the list.
const FONT: &str = "DejaVu Sans, Verdana, sans-serif";

const INK: RGBColor = RGBColor(30, 30, 30);
const AXIS: RGBColor = RGBColor(110, 110, 110);
const GRID: RGBColor = RGBColor(225, 225, 225);

type Area<'a> = DrawingArea<Canvas<'a>, Shift>;
type Chart<'a, 'b, Y> = ChartContext<'a, Canvas<'b>, Cartesian2d<RangedCoordf64, Y>>;

/// What is drawn.
pub struct Figure<'a> {
    /// The bands of each bar, from the bottom up
    pub bands: &'a [Band],
    /// What the legend says of the dashed lines between phases
    pub change: &'a str,
    /// In the order of time
    pub phases: &'a [Phase],
    /// What a bar stands for, in seconds
    pub bar: f64,
    /// The same in words, for the axis
    pub per_bar: &'a str,
    /// From left to right
    pub panels: &'a [Panel<'a>],
}

/// A stretch of the run; a dashed line is where the next one begins.
pub struct Phase {
    /// What it is
    pub label: String,
    /// The same where there is little room
    pub short: String,
    /// Length
    pub seconds: u32,
}

/// One run.
pub struct Panel<'a> {
    /// What was run
    pub title: &'a str,
    /// What it came to
    pub outcome: &'a str,
    /// Requests in the time of each bar, by band
    pub bars: &'a [Vec<u64>],
    /// What became of home, behind the bars
    pub spans: &'a [Span],
    /// What home had in flight, where there is a limit; in all panels or in none
    pub in_flight: Option<InFlight<'a>>,
}

/// A stretch of time that is shaded, in seconds from the start.
pub struct Span {
    /// Where it begins
    pub from: f64,
    /// Where it ends
    pub until: f64,
    /// What it is; left out where there is no room for it
    pub label: String,
    /// Its colour
    pub shade: Shade,
}

/// What a shaded stretch is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shade {
    /// Home is ejected
    Ejected,
    /// Home takes its load back
    Ramp,
}

impl Shade {
    fn color(self) -> RGBColor {
        match self {
            Shade::Ejected => RGBColor(252, 238, 208),
            Shade::Ramp => RGBColor(218, 234, 246),
        }
    }
}

/// A figure, drawn.
pub struct Drawn {
    /// As an SVG document
    pub svg: String,
    /// As the content of a PNG file
    pub png: Vec<u8>,
}

/// Draws the figure.
/// # Errors
/// There is nothing to draw on.
pub fn draw(figure: &Figure) -> Result<Drawn> {
    let size = size(figure);
    let mut svg = String::new();
    let mut pixels = canvas::pixels(size)?;
    let canvas = Canvas::new(&mut svg, &mut pixels, size)?;
    draw_on(figure, canvas).context("cannot draw the figure")?;
    let png = pixels.encode_png();
    Ok(Drawn {
        svg,
        png: png.context("cannot encode the figure as PNG")?,
    })
}

fn draw_on(figure: &Figure, canvas: Canvas) -> Result<()> {
    let (_, height) = canvas.get_size();
    let root = canvas.into_drawing_area();
    root.fill(&WHITE)?;
    let (plots, legend) = root.split_vertically(height - 44);
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

/// With what is in flight, the axis of time is below that, and not here.
fn size(figure: &Figure) -> (u32, u32) {
    let (width, height) = SIZE;
    match limited(figure) {
        true => (width, height + in_flight::HEIGHT - (TIME - NO_TIME)),
        false => (width, height),
    }
}

fn limited(figure: &Figure) -> bool {
    figure.panels.iter().any(|panel| panel.in_flight.is_some())
}

/// The same for all panels: the highest bar of any, and a little air, or some for the labels of spans.
fn top_of_axis(panels: &[Panel]) -> f64 {
    let highest = panels.iter().flat_map(|p| p.bars);
    let highest = highest.map(|bar| bar.iter().sum::<u64>()).max();
    let spans = panels.iter().any(|p| !p.spans.is_empty());
    let air = if spans { 1.16 } else { 1.06 };
    (highest.unwrap_or(0).max(1) as f64 * air).ceil()
}

fn draw_panel(figure: &Figure, panel: &Panel, top: f64, area: &Area) -> Result<()> {
    let (head, rest) = area.split_vertically(82);
    let plot = match &panel.in_flight {
        Some(in_flight) => {
            let height = rest.dim_in_pixel().1 - in_flight::HEIGHT;
            let (plot, below) = rest.split_vertically(height);
            in_flight.draw(figure, &below)?;
            plot
        }
        None => rest,
    };
    let timed = panel.in_flight.is_none();
    let end = ends(figure.phases).last().copied().unwrap_or(1.0);
    let mut chart = ChartBuilder::on(&plot)
        .margin_right(24)
        .margin_left(10)
        .x_label_area_size(if timed { TIME } else { NO_TIME })
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..end, 0.0..top)?;
    let corners = |span: &Span| [(span.from, 0.0), (span.until.min(end), top)];
    let shades = panel
        .spans
        .iter()
        .map(|span| Rectangle::new(corners(span), span.shade.color().filled()));
    chart.draw_series(shades)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .max_light_lines(0)
        .bold_line_style(GRID)
        .axis_style(AXIS)
        .x_labels(8)
        .y_labels(7)
        .x_label_formatter(&|v| {
            if timed {
                format!("{v:.0}")
            } else {
                String::new()
            }
        })
        .y_label_formatter(&|v| format!("{v:.0}"))
        .label_style((FONT, 15).into_font().color(&INK))
        .axis_desc_style((FONT, 16).into_font().color(&INK))
        .x_desc(if timed { "time (s)" } else { "" })
        .y_desc(figure.per_bar)
        .draw()?;
    let bars =
        panel.bars.iter().enumerate().flat_map(|(nth, counts)| {
            bars(nth as f64 * figure.bar, figure.bar, figure.bands, counts)
        });
    chart.draw_series(bars.map(|(corners, color)| Rectangle::new(corners, color.filled())))?;
    draw_changes(figure.phases, top, &mut chart)?;

    let (plot_x, _) = chart.plotting_area().get_pixel_range();
    let scale = f64::from(plot_x.end - plot_x.start) / end;
    let small = (FONT, 13)
        .into_font()
        .color(&INK)
        .pos(Pos::new(HPos::Center, VPos::Center));
    // About as wide as the font.
    let fits =
        |span: &&Span| (span.until - span.from) * scale > 6.5 * span.label.chars().count() as f64;
    chart.draw_series(panel.spans.iter().filter(fits).map(|span| {
        let middle = (span.from + span.until) / 2.0;
        Text::new(span.label.clone(), (middle, top * 0.95), small.clone())
    }))?;
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
    draw_phases(figure.phases, x, &head)
}

/// Where phases end, in seconds from the start.
fn ends(phases: &[Phase]) -> Vec<f64> {
    let ends = phases.iter().scan(0, |end, phase| {
        *end += phase.seconds;
        Some(f64::from(*end))
    });
    ends.collect()
}

fn draw_changes<Y: Ranged<ValueType = f64>>(
    phases: &[Phase],
    top: f64,
    chart: &mut Chart<Y>,
) -> Result<()> {
    for &at in ends(phases).iter().rev().skip(1) {
        chart.draw_series(DashedLineSeries::new(
            [(at, 0.0), (at, top)],
            7,
            5,
            INK.stroke_width(2),
        ))?;
    }
    Ok(())
}

/// What each phase is, above the plot, where no data is.
fn draw_phases(phases: &[Phase], x: Range<i32>, head: &Area) -> Result<()> {
    let ends = ends(phases);
    let scale = f64::from(x.end - x.start) / ends.last().copied().unwrap_or(1.0);
    for (phase, end) in phases.iter().zip(ends) {
        let width = f64::from(phase.seconds) * scale;
        let roomy = width > 9.0 * phase.label.chars().count() as f64;
        let text = if roomy { &phase.label } else { &phase.short };
        let middle = x.start + (end * scale - width / 2.0) as i32;
        let style = (FONT, 14)
            .into_font()
            .color(&AXIS)
            .pos(Pos::new(HPos::Center, VPos::Center));
        head.draw(&Text::new(text.as_str(), (middle, 70), style))?;
    }
    Ok(())
}

type Bar = ([(f64, f64); 2], RGBColor);

/// The requests of a stretch of time on top of each other, by band. A count of 0 has no bar.
fn bars(from: f64, width: f64, bands: &[Band], counts: &[u64]) -> impl Iterator<Item = Bar> {
    let (left, right) = (from + 0.07 * width, from + 0.93 * width);
    bands
        .iter()
        .zip(counts)
        .scan(0.0, move |base, (band, &count)| {
            let bottom = *base;
            *base += count as f64;
            Some((count > 0, ([(left, bottom), (right, *base)], band.color)))
        })
        .filter_map(|(any, bar)| any.then_some(bar))
}

/// How an entry of the legend is shown.
enum Mark {
    Box(RGBColor),
    Line(RGBColor),
    Dashes,
}

fn draw_legend(figure: &Figure, area: &Area) -> Result<()> {
    let bands = figure.bands.iter();
    let mut entries: Vec<_> = bands
        .map(|band| (Mark::Box(band.color), band.label.clone()))
        .collect();
    let mut gap = 44;
    if figure.panels.iter().any(|panel| !panel.spans.is_empty()) {
        gap = 28;
        for (shade, text) in [(Shade::Ejected, "home ejected"), (Shade::Ramp, "ramp")] {
            entries.push((Mark::Box(shade.color()), text.to_owned()));
        }
    }
    entries.push((Mark::Dashes, figure.change.to_owned()));
    if limited(figure) {
        entries.push((Mark::Line(in_flight::LIMIT), "limit".to_owned()));
    }
    // About as wide as the font: close enough to centre the whole.
    let width = |text: &str| 30 + 15 * text.chars().count() as i32 / 2;
    let texts: i32 = entries.iter().map(|(_, text)| width(text)).sum();
    let gaps = entries.len() as i32 - 1;
    // Narrower where the entries would not fit beside each other.
    gap = gap.min((SIZE.0 as i32 - 2 * MARGIN - texts) / gaps.max(1));
    let total = texts + gaps * gap;
    let style = (FONT, 16)
        .into_font()
        .color(&INK)
        .pos(Pos::new(HPos::Left, VPos::Center));
    let mut x = (SIZE.0 as i32 - total) / 2;
    for (mark, text) in entries {
        let line = |points: [(i32, i32); 2], color: RGBColor, width| {
            area.draw(&PathElement::new(points, color.stroke_width(width)))
        };
        match mark {
            Mark::Box(color) => {
                area.draw(&Rectangle::new([(x, 8), (x + 22, 24)], color.filled()))?
            }
            Mark::Line(color) => line([(x, 16), (x + 22, 16)], color, 3)?,
            Mark::Dashes => {
                for y in [4, 14, 24] {
                    line([(x + 16, y), (x + 16, y + 6)], INK, 2)?;
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
#[path = "figure_test.rs"]
mod tests;
