//! What the figure is drawn on: an SVG document and the pixels of a PNG at once, so that both show the same.
//!
//! Text in the pixels is set in DejaVu Sans, which comes with the program: a machine without fonts draws the same.

use std::io;

use anyhow::{Context, Result};
use plotters::prelude::{DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingErrorKind, FontStyle,
    FontTransform,
};
use tiny_skia::{FillRule, Paint, Path, PathBuilder, Pixmap, Rect, Stroke, Transform};
use ttf_parser::{Face, GlyphId, OutlineBuilder};

/// Pixels of the PNG for one of the SVG's.
pub(super) const SCALE: f32 = 2.0;

type Done = Result<(), DrawingErrorKind<io::Error>>;

/// The pixels of a figure of this size.
/// # Errors
/// It has no size.
pub(super) fn pixels((width, height): (u32, u32)) -> Result<Pixmap> {
    let scaled = |length: u32| (length as f32 * SCALE) as u32;
    Pixmap::new(scaled(width), scaled(height)).context("cannot hold the figure's pixels")
}

/// Draws on both.
pub(super) struct Canvas<'a> {
    svg: SVGBackend<'a>,
    pixels: &'a mut Pixmap,
    regular: Face<'static>,
    bold: Face<'static>,
}

impl<'a> Canvas<'a> {
    /// Of an SVG document and of [`pixels`] of this size.
    /// # Errors
    /// The fonts cannot be read.
    pub(super) fn new(
        svg: &'a mut String,
        pixels: &'a mut Pixmap,
        size: (u32, u32),
    ) -> Result<Self> {
        Ok(Self {
            svg: SVGBackend::with_string(svg, size),
            pixels,
            regular: Face::parse(dejavu::sans::regular(), 0)?,
            bold: Face::parse(dejavu::sans::bold(), 0)?,
        })
    }

    fn fill(&mut self, path: Option<Path>, color: BackendColor, local: Transform) {
        // What has no extent leaves no mark.
        if let Some(path) = path {
            let at = Transform::from_scale(SCALE, SCALE).pre_concat(local);
            let rule = FillRule::Winding;
            self.pixels.fill_path(&path, &paint(color), rule, at, None);
        }
    }

    fn stroke(&mut self, path: Option<Path>, color: BackendColor, width: u32) {
        if let Some(path) = path {
            let at = Transform::from_scale(SCALE, SCALE);
            let stroke = Stroke {
                width: width as f32,
                ..Stroke::default()
            };
            self.pixels
                .stroke_path(&path, &paint(color), &stroke, at, None);
        }
    }
}

impl DrawingBackend for Canvas<'_> {
    type ErrorType = io::Error;

    fn get_size(&self) -> (u32, u32) {
        self.svg.get_size()
    }

    fn ensure_prepared(&mut self) -> Done {
        self.svg.ensure_prepared()
    }

    fn present(&mut self) -> Done {
        self.svg.present()
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, color: BackendColor) -> Done {
        self.fill(
            rectangle((x, y), (x + 1, y + 1)),
            color,
            Transform::identity(),
        );
        self.svg.draw_pixel((x, y), color)
    }

    fn draw_line<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
    ) -> Done {
        self.stroke(polyline(&[from, to]), style.color(), style.stroke_width());
        self.svg.draw_line(from, to, style)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Done {
        let path = rectangle(from, to);
        match fill {
            true => self.fill(path, style.color(), Transform::identity()),
            // The document says no width, which is 1.
            false => self.stroke(path, style.color(), 1),
        }
        self.svg.draw_rect(from, to, style, fill)
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Done {
        let points: Vec<BackendCoord> = path.into_iter().collect();
        self.stroke(polyline(&points), style.color(), style.stroke_width());
        self.svg.draw_path(points, style)
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, at: BackendCoord) -> Done {
        let face = match style.style() {
            FontStyle::Bold => &self.bold,
            _ => &self.regular,
        };
        // As SVGBackend writes it: the size that plotters means, and where the line stands.
        let size = style.size() as f32 / 1.24;
        let glyphs = glyphs(face, text, size, style.anchor());
        let degrees = match style.transform() {
            FontTransform::None => 0.0,
            FontTransform::Rotate90 => 90.0,
            FontTransform::Rotate180 => 180.0,
            FontTransform::Rotate270 => 270.0,
        };
        let local = Transform::from_translate(at.0 as f32, at.1 as f32)
            .pre_concat(Transform::from_rotate(degrees));
        self.fill(glyphs, style.color(), local);
        self.svg.draw_text(text, style, at)
    }
}

fn paint(color: BackendColor) -> Paint<'static> {
    let (red, green, blue) = color.rgb;
    let mut paint = Paint::default();
    paint.set_color_rgba8(red, green, blue, (color.alpha * 255.0).round() as u8);
    paint
}

fn rectangle((left, top): BackendCoord, (right, bottom): BackendCoord) -> Option<Path> {
    let [left, top, right, bottom] = [left, top, right, bottom].map(|at| at as f32);
    Rect::from_ltrb(left, top, right, bottom).map(PathBuilder::from_rect)
}

fn polyline(points: &[BackendCoord]) -> Option<Path> {
    let mut path = PathBuilder::new();
    for (nth, &(x, y)) in points.iter().enumerate() {
        match nth {
            0 => path.move_to(x as f32, y as f32),
            _ => path.line_to(x as f32, y as f32),
        }
    }
    path.finish()
}

/// The outlines of a line of text around its anchor.
fn glyphs(face: &Face, text: &str, size: f32, anchor: Pos) -> Option<Path> {
    let unit = size / f32::from(face.units_per_em());
    let mut places: Vec<(f32, GlyphId)> = Vec::new();
    let mut width = 0.0;
    for glyph in text
        .chars()
        .map(|char| face.glyph_index(char).unwrap_or_default())
    {
        if let Some(&(_, before)) = places.last() {
            width += kerning(face, before, glyph) * unit;
        }
        places.push((width, glyph));
        width += f32::from(face.glyph_hor_advance(glyph).unwrap_or(0)) * unit;
    }
    let left = match anchor.h_pos {
        HPos::Left => 0.0,
        HPos::Center => -width / 2.0,
        HPos::Right => -width,
    };
    // 0.76em, 0.5ex and -0.5ex; an ex is taken to be half an em.
    let line = match anchor.v_pos {
        VPos::Top => 0.76,
        VPos::Center => 0.25,
        VPos::Bottom => -0.25,
    };
    let mut outline = Outline {
        path: PathBuilder::new(),
        pen: 0.0,
        line: line * size,
        unit,
    };
    for (place, glyph) in places {
        outline.pen = left + place;
        // A blank has none.
        let _ = face.outline_glyph(glyph, &mut outline);
    }
    outline.path.finish()
}

fn kerning(face: &Face, left: GlyphId, right: GlyphId) -> f32 {
    let subtables = face
        .tables()
        .kern
        .into_iter()
        .flat_map(|kern| kern.subtables);
    let horizontal = subtables.filter(|table| table.horizontal && !table.variable);
    let pairs = horizontal.filter_map(|table| table.glyphs_kerning(left, right));
    pairs.map(f32::from).sum()
}

/// A font's units grow upwards, from where the pen is on the line.
struct Outline {
    path: PathBuilder,
    pen: f32,
    line: f32,
    unit: f32,
}

impl Outline {
    fn place(&self, x: f32, y: f32) -> (f32, f32) {
        (self.pen + x * self.unit, self.line - y * self.unit)
    }
}

impl OutlineBuilder for Outline {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.place(x, y);
        self.path.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.place(x, y);
        self.path.line_to(x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.place(x1, y1), self.place(x, y));
        self.path.quad_to(x1, y1, x, y);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2)) = (self.place(x1, y1), self.place(x2, y2));
        let (x, y) = self.place(x, y);
        self.path.cubic_to(x1, y1, x2, y2, x, y);
    }

    fn close(&mut self) {
        self.path.close();
    }
}
