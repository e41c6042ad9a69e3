//! A plot of curves over numbers, as SVG. On a logarithmic axis what is zero stands at the bottom, so that "none seen" is seen.

use anyhow::{Result, anyhow};
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use serde::{Deserialize, Serialize};

/// Width and height, in pixels, without the legend.
const SIZE: (u32, u32) = (960, 540);
/// Width of the legend, in pixels. It stands beside the curves: within, it would hide some.
const LEGEND: u32 = 240;
/// Its first line, and the next ones.
const LEGEND_TOP: i32 = 60;
const LEGEND_STEP: usize = 20;
/// Told apart also by those who see few colours (Okabe and Ito).
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(90, 90, 90),
    RGBColor(240, 228, 66),
];

/// How an axis is divided.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Scale {
    /// Evenly.
    Linear,
    /// By powers of ten.
    Log,
}

/// One line of a plot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Curve {
    /// For the legend.
    pub name: String,
    /// In order of x.
    pub points: Vec<(f64, f64)>,
    /// What is expected of the curve before: thin, in the same colour, without marks.
    pub is_model: bool,
}

impl Curve {
    /// What is not a number is left out.
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        let points = points.into_iter().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
        Self { name: name.into(), points, is_model: false }
    }

    /// What is expected of the curve before this one; without a name it is not in the legend.
    pub fn model(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { is_model: true, ..Self::new(name, points) }
    }
}

/// What stands at a point, so that more curves than colours are told apart.
#[derive(Clone, Copy)]
enum Mark {
    Circle,
    Triangle,
}

impl Mark {
    fn at<DB: DrawingBackend, Coord: Clone + 'static>(
        self,
        point: Coord,
        colour: &RGBColor,
    ) -> DynElement<'static, DB, Coord> {
        match self {
            Self::Circle => Circle::new(point, 4, colour.filled()).into_dyn(),
            Self::Triangle => TriangleMarker::new(point, 6, colour.filled()).into_dyn(),
        }
    }
}

/// The plot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plot {
    /// Part of the file's name.
    pub id: String,
    /// Above it.
    pub title: String,
    x: String,
    y: String,
    scales: (Scale, Scale),
    x_from: Option<f64>,
    /// What stands at 1, 2, ... of the first axis, instead of numbers.
    names: Vec<String>,
    /// In order of the legend.
    pub curves: Vec<Curve>,
}

impl Plot {
    /// Without curves, both axes linear.
    pub fn new(
        id: impl Into<String>,
        title: impl Into<String>,
        x: impl Into<String>,
        y: impl Into<String>,
    ) -> Self {
        let scales = (Scale::Linear, Scale::Linear);
        let (x_from, names, curves) = (None, Vec::new(), Vec::new());
        Self { id: id.into(), title: title.into(), x: x.into(), y: y.into(), scales, x_from, names, curves }
    }

    /// Divides the axes.
    #[must_use]
    pub fn scale(mut self, x: Scale, y: Scale) -> Self {
        self.scales = (x, y);
        self
    }

    /// Lets the first axis begin here.
    #[must_use]
    pub const fn from_x(mut self, x: f64) -> Self {
        self.x_from = Some(x);
        self
    }

    /// Makes the first axis, which must be linear, one of names: points at 1, 2, ... belong to them, a little apart for each
    /// curve and not joined.
    #[must_use]
    pub fn named(mut self, names: Vec<String>) -> Self {
        self.names = names;
        self
    }

    /// Name of its file, in a report of this name.
    pub fn file(&self, report: &str) -> String {
        format!("{report}-{}.svg", self.id)
    }

    /// Draws it.
    ///
    /// # Errors
    /// plotters'.
    pub fn svg(&self) -> Result<String> {
        let mut text = String::new();
        let (x, y) = (self.range(|(x, _)| *x, self.scales.0), self.range(|(_, y)| *y, self.scales.1));
        let x = if self.names.is_empty() {
            (self.x_from.filter(|from| *from < x.1).unwrap_or(x.0), x.1)
        } else {
            (0.5, self.names.len() as f64 + 0.5)
        };
        let drawn = match self.scales {
            (Scale::Linear, Scale::Linear) => self.draw(&mut text, x.0..x.1, y.0..y.1, y.0),
            (Scale::Linear, Scale::Log) => self.draw(&mut text, x.0..x.1, (y.0..y.1).log_scale(), y.0),
            (Scale::Log, Scale::Linear) => self.draw(&mut text, (x.0..x.1).log_scale(), y.0..y.1, y.0),
            (Scale::Log, Scale::Log) => {
                self.draw(&mut text, (x.0..x.1).log_scale(), (y.0..y.1).log_scale(), y.0)
            }
        };
        drawn.map_err(|error| anyhow!("cannot draw {}: {error}", self.id))?;
        Ok(text)
    }

    fn draw<X, Y>(&self, text: &mut String, x: X, y: Y, floor: f64) -> Result<(), String>
    where
        X: AsRangedCoord<Value = f64>,
        Y: AsRangedCoord<Value = f64>,
        X::CoordDescType: ValueFormatter<f64>,
        Y::CoordDescType: ValueFormatter<f64>,
    {
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let root = SVGBackend::with_string(text, (SIZE.0 + LEGEND, SIZE.1)).into_drawing_area();
        root.fill(&WHITE).map_err(|error| said(&error))?;
        let (area, legend) = root.split_horizontally(SIZE.0);
        let mut entries = (LEGEND_TOP..).step_by(LEGEND_STEP).peekable();
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, ("sans-serif", 22))
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(x, y)
            .map_err(|error| said(&error))?;
        chart
            .configure_mesh()
            .x_desc(&self.x)
            .y_desc(&self.y)
            .x_labels(if self.names.is_empty() { 10 } else { 2 * self.names.len() })
            .x_label_formatter(&|value| self.x_label(*value))
            .y_label_formatter(&|value| label(*value))
            .light_line_style(TRANSPARENT)
            .draw()
            .map_err(|error| said(&error))?;
        let rounds = [Mark::Circle, Mark::Triangle].into_iter().cycle();
        let mut looks = rounds.flat_map(|mark| COLOURS.iter().map(move |colour| (mark, colour)));
        let (mut mark, mut colour) = (Mark::Circle, &COLOURS[0]);
        for (place, curve) in self.curves.iter().enumerate() {
            if !curve.is_model {
                (mark, colour) = looks.next().unwrap_or((mark, colour));
            }
            let width = if curve.is_model { 1 } else { 2 };
            let aside = self.aside(place);
            let points = || curve.points.iter().map(|(x, y)| (*x + aside, y.max(floor)));
            let joined = points().filter(|_| self.names.is_empty());
            let line = LineSeries::new(joined, colour.stroke_width(width));
            chart.draw_series(line).map_err(|error| said(&error))?;
            if let Some(y) = entries.next_if(|_| !curve.name.is_empty()) {
                let line = PathElement::new([(0, y), (18, y)], colour.stroke_width(width));
                let name = Text::new(curve.name.as_str(), (26, y - 6), ("sans-serif", 13));
                legend.draw(&line).map_err(|error| said(&error))?;
                if !curve.is_model {
                    legend.draw(&mark.at((9, y), colour)).map_err(|error| said(&error))?;
                }
                legend.draw(&name).map_err(|error| said(&error))?;
            }
            if !curve.is_model {
                chart
                    .draw_series(points().map(|point| mark.at(point, colour)))
                    .map_err(|error| said(&error))?;
            }
        }
        root.present().map_err(|error| said(&error))
    }

    /// What stands at `value` of the first axis.
    fn x_label(&self, value: f64) -> String {
        if self.names.is_empty() {
            return label(value);
        }
        let is_name = (value - value.round()).abs() < 1e-6 && value >= 1.0;
        is_name.then(|| self.names.get(value.round() as usize - 1).cloned()).flatten().unwrap_or_default()
    }

    /// How far beside the name the points of a curve stand.
    fn aside(&self, place: usize) -> f64 {
        if self.names.is_empty() {
            return 0.0;
        }
        (place as f64 + 0.5) / self.curves.len() as f64 * 0.6 - 0.3
    }

    /// From a little below the smallest to a little above the largest.
    fn range(&self, of: fn(&(f64, f64)) -> f64, scale: Scale) -> (f64, f64) {
        let values = || self.curves.iter().flat_map(|curve| &curve.points).map(of);
        let most = values().fold(f64::NEG_INFINITY, f64::max);
        match scale {
            Scale::Linear => {
                let least = values().fold(0.0, f64::min);
                if most > least { (least, most * 1.05) } else { (least, least + 1.0) }
            }
            Scale::Log => {
                let least = values().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
                if most > 0.0 { (least / 2.0, most.max(least * 2.0) * 2.0) } else { (0.1, 1.0) }
            }
        }
    }
}

fn label(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(0.001..1e6).contains(&size) {
        return format!("{value:.0e}");
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
