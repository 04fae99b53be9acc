//! The figures as a drawing: a bar for each figure that has a reference, as long as its ratio, and a line where the reference is.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use plotters::prelude::*;

use super::report::Line;

const WIDTH: u32 = 900;
const ROW_HEIGHT: u32 = 44;
const MARGIN: u32 = 40;
const TOP: u32 = 10;
/// Room for the names of the rows, pixels.
const NAMES_WIDTH: u32 = 330;
const OURS: RGBColor = RGBColor(46, 110, 180);
const REFERENCE: RGBColor = RGBColor(190, 60, 40);

/// Draws `lines` into the SVG file `file`.
///
/// # Errors
/// No figure has a reference, or the file cannot be written.
pub fn plot(lines: &[Line], file: &Path) -> Result<()> {
    let rows: Vec<(&Line, f64)> = lines.iter().filter_map(|line| Some((line, line.ratio?))).collect();
    ensure!(
        !rows.is_empty(),
        "no figure of this scenario has a reference to be drawn beside"
    );
    draw(&rows, file)
        .map_err(|error| anyhow!("{error}"))
        .with_context(|| format!("draw {}", file.display()))
}

fn draw(rows: &[(&Line, f64)], file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let count = u32::try_from(rows.len())?;
    let area = SVGBackend::new(file, (WIDTH, TOP + count * ROW_HEIGHT + MARGIN)).into_drawing_area();
    area.fill(&WHITE)?;
    let most = rows.iter().map(|(_, ratio)| *ratio).fold(1.0, f64::max) * 1.15;
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
        .x_desc("by the reference of the same run")
        .draw()?;
    for (at, (line, ratio)) in rows.iter().enumerate() {
        let bottom = f64::from(count) - 1.0 - at as f64;
        let bar = Rectangle::new([(0.0, bottom + 0.2), (*ratio, bottom + 0.8)], OURS.filled());
        chart.draw_series(std::iter::once(bar))?;
        let reference = line.reference.unwrap_or_default();
        let name = format!("{} {} / {reference}: {ratio:.2}", line.case, line.metric);
        // In the middle of its row, half a letter up.
        let y = i32::try_from(TOP + u32::try_from(at)? * ROW_HEIGHT + ROW_HEIGHT / 2)? - 7;
        area.draw(&Text::new(name, (10, y), ("sans-serif", 13)))?;
    }
    let edge = [(1.0, 0.0), (1.0, f64::from(count))];
    chart.draw_series(std::iter::once(PathElement::new(edge, REFERENCE.stroke_width(2))))?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::report::{Report, Series};
    use super::*;

    #[test]
    fn each_figure_with_a_reference_has_a_bar() {
        let mut report = Report::new("catch-up", true, |_| (), |_| ());
        let (mut ours, mut reference) = (Series::default(), Series::default());
        ours.push(3.0);
        reference.push(4.0);
        report.figure("64KiB", "receiver_rss_bytes_max", "B", &ours);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("figures.svg");
        assert!(plot(report.lines(), &file).is_err());
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
    }
}
