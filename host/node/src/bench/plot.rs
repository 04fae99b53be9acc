//! The figures as a drawing: a bar for each figure that has a reference, as long as its ratio, and a line where the reference is. Where no
//! figure has one, a bar for each, beside the largest of its unit.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use plotters::prelude::*;

use super::report::{Line, amount};

const WIDTH: u32 = 900;
const ROW_HEIGHT: u32 = 44;
const MARGIN: u32 = 40;
const TOP: u32 = 10;
/// Room for the names of the rows, pixels.
const NAMES_WIDTH: u32 = 330;
const OURS: RGBColor = RGBColor(46, 110, 180);
const REFERENCE: RGBColor = RGBColor(190, 60, 40);

/// What a drawing shows.
struct Rows {
    /// Name and length of each bar.
    bars: Vec<(String, f64)>,
    /// What the lengths are measured by.
    by: &'static str,
    /// The references are where the length is 1.
    beside: bool,
}

impl Rows {
    /// The figures that have a reference; where none has, each figure beside the largest of its unit.
    fn of(lines: &[Line]) -> Rows {
        let compared = lines.iter().filter_map(|line| {
            let (reference, ratio) = (line.reference.unwrap_or_default(), line.ratio?);
            let name = format!("{} {} / {reference}: {ratio:.2}", line.case, line.metric);
            Some((name, ratio))
        });
        let bars: Vec<_> = compared.collect();
        if !bars.is_empty() {
            return Rows {
                bars,
                by: "by the reference of the same run",
                beside: true,
            };
        }
        let most = |unit| {
            let same = lines.iter().filter(|line| line.unit == unit);
            same.map(|line| line.value).fold(0.0, f64::max)
        };
        let alone = lines.iter().map(|line| {
            let length = line.value / most(line.unit);
            let name = format!("{} {}: {}", line.case, line.metric, amount(line.value, line.unit));
            (name, if length.is_finite() { length } else { 0.0 })
        });
        Rows {
            bars: alone.collect(),
            by: "by the largest figure of its unit: nothing stands beside these",
            beside: false,
        }
    }
}

/// Draws `lines` into the SVG file `file`.
///
/// # Errors
/// There is no figure, or the file cannot be written.
pub fn plot(lines: &[Line], file: &Path) -> Result<()> {
    ensure!(!lines.is_empty(), "there is no figure to draw");
    draw(&Rows::of(lines), file)
        .map_err(|error| anyhow!("{error}"))
        .with_context(|| format!("draw {}", file.display()))
}

fn draw(rows: &Rows, file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let count = u32::try_from(rows.bars.len())?;
    let area = SVGBackend::new(file, (WIDTH, TOP + count * ROW_HEIGHT + MARGIN)).into_drawing_area();
    area.fill(&WHITE)?;
    let most = rows.bars.iter().map(|(_, length)| *length).fold(1.0, f64::max) * 1.15;
    let mut chart = ChartBuilder::on(&area)
        .margin_left(NAMES_WIDTH)
        .margin_right(MARGIN)
        .margin_top(TOP)
        .x_label_area_size(MARGIN)
        .build_cartesian_2d(0.0..most, 0.0..f64::from(count))?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_desc(rows.by)
        .draw()?;
    for (at, (name, length)) in rows.bars.iter().enumerate() {
        let bottom = f64::from(count) - 1.0 - at as f64;
        let bar = Rectangle::new([(0.0, bottom + 0.2), (*length, bottom + 0.8)], OURS.filled());
        chart.draw_series(std::iter::once(bar))?;
        // In the middle of its row, half a letter up.
        let y = i32::try_from(TOP + u32::try_from(at)? * ROW_HEIGHT + ROW_HEIGHT / 2)? - 7;
        area.draw(&Text::new(name.as_str(), (10, y), ("sans-serif", 13)))?;
    }
    if rows.beside {
        let edge = [(1.0, 0.0), (1.0, f64::from(count))];
        chart.draw_series(std::iter::once(PathElement::new(edge, REFERENCE.stroke_width(2))))?;
    }
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::report::{Report, Series};
    use super::*;

    #[test]
    fn each_figure_has_a_bar_and_those_with_a_reference_alone_where_there_are_any() {
        let mut report = Report::new("catch-up", true, |_| (), |_| ());
        let (mut ours, mut reference) = (Series::default(), Series::default());
        ours.push(3.0);
        reference.push(4.0);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("figures.svg");
        assert!(plot(report.lines(), &file).is_err(), "no figure");
        report.figure("64KiB", "receiver_rss_bytes_max", "B", &ours);
        plot(report.lines(), &file).unwrap();
        let drawn = std::fs::read_to_string(&file).unwrap();
        assert!(drawn.contains("64KiB receiver_rss_bytes_max: 3.00 B"), "{drawn}");
        report.compared(
            "64KiB",
            "bytes_per_second",
            "B/s",
            &ours,
            ("tls-pipe-fsync", &reference),
        );
        plot(report.lines(), &file).unwrap();
        let drawn = std::fs::read_to_string(&file).unwrap();
        assert!(drawn.contains("bytes_per_second / tls-pipe-fsync: 0.75"), "{drawn}");
        assert!(
            !drawn.contains("receiver_rss_bytes_max"),
            "what has no reference stays out: {drawn}"
        );
    }
}
