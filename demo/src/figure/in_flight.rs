//! Below a panel: what home had in flight, against its limit.

use std::ops::Range;

use anyhow::Result;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::band::HOME;
use super::{AXIS, Area, FONT, Figure, INK, TIME, draw_changes, ends};

/// Of Okabe and Ito's palette, as the others.
pub(super) const LIMIT: RGBColor = RGBColor(213, 94, 0);
/// Its height, what is written at its top and its bottom included.
pub(super) const HEIGHT: u32 = 150;

/// What home had in flight.
pub struct InFlight<'a> {
    /// The most in each second
    pub most: &'a [u64],
    /// What it should not exceed
    pub limit: u32,
}

impl InFlight<'_> {
    /// Room above whichever is the higher: the limit or what there was.
    pub(super) fn top(&self) -> f64 {
        let most = self.most.iter().copied().max().unwrap_or(0);
        most.max(self.limit.into()).max(1) as f64 * 1.5
    }

    fn axis(&self) -> Axis {
        let (limit, top) = (f64::from(self.limit), self.top());
        let most = self.most.iter().copied().max().unwrap_or(0) as f64;
        let said = [0.0, limit, most].into_iter();
        Axis {
            range: (0.0..top).into(),
            said: said.filter(|&n| n == 0.0 || n >= limit).collect(),
        }
    }

    pub(super) fn draw(&self, figure: &Figure, area: &Area) -> Result<()> {
        let (top, limit) = (self.top(), f64::from(self.limit));
        let end = ends(figure.phases).last().copied().unwrap_or(1.0);
        let mut chart = ChartBuilder::on(area)
            .margin_top(26)
            .margin_right(24)
            .margin_left(10)
            .x_label_area_size(TIME)
            .y_label_area_size(52)
            .build_cartesian_2d(0.0..end, self.axis())?;
        chart
            .configure_mesh()
            .disable_mesh()
            .axis_style(AXIS)
            .x_labels(8)
            .x_label_formatter(&|v| format!("{v:.0}"))
            .y_label_formatter(&|v| format!("{v:.0}"))
            .label_style((FONT, 15).into_font().color(&INK))
            .axis_desc_style((FONT, 16).into_font().color(&INK))
            .x_desc("time (s)")
            .y_desc("in flight")
            .draw()?;
        chart.draw_series(self.bars().map(|bar| Rectangle::new(bar, HOME.filled())))?;
        draw_changes(figure.phases, top, &mut chart)?;
        chart.draw_series(LineSeries::new(
            [(0.0, limit), (end, limit)],
            LIMIT.stroke_width(3),
        ))?;
        let text = |vertical| Pos::new(HPos::Left, vertical);
        let style = (FONT, 14).into_font();
        chart.draw_series([Text::new(
            format!("limit {}", self.limit),
            (end * 0.01, limit + top * 0.04),
            style.clone().color(&LIMIT).pos(text(VPos::Bottom)),
        )])?;
        let (x, _) = chart.plotting_area().get_pixel_range();
        let (area_x, _) = area.get_pixel_range();
        area.draw(&Text::new(
            "in flight at home, the most in each second",
            (x.start - area_x.start, 12),
            style.color(&AXIS).pos(text(VPos::Center)),
        ))?;
        Ok(())
    }

    /// A second with nothing has no bar.
    fn bars(&self) -> impl Iterator<Item = [(f64, f64); 2]> {
        let bars = self.most.iter().enumerate().filter(|(_, n)| **n > 0);
        bars.map(|(nth, &n)| [(nth as f64 + 0.07, 0.0), (nth as f64 + 0.93, n as f64)])
    }
}

/// It says nothing but the limit, and the most where that is more.
struct Axis {
    range: RangedCoordf64,
    said: Vec<f64>,
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, pixels: (i32, i32)) -> i32 {
        self.range.map(value, pixels)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.said.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.range()
    }
}
