//! The form of a figure: our value, the reference of the same run, their ratio, and how far the runs lay apart.

use serde::Serialize;

/// One figure, as the operator's page lays it down.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Line {
    /// Scenario.
    pub scenario: &'static str,
    /// Case of it.
    pub case: String,
    /// What was measured.
    pub metric: &'static str,
    /// Median of the runs.
    pub value: f64,
    /// Unit of value and reference.
    pub unit: &'static str,
    /// What stands beside it; none where nothing can.
    pub reference: Option<&'static str>,
    /// Median of the reference's runs.
    pub reference_value: Option<f64>,
    /// Value by reference.
    pub ratio: Option<f64>,
    /// How many runs.
    pub runs: usize,
    /// Largest less smallest run, by the median.
    pub spread: f64,
}

/// The runs of one figure.
#[derive(Clone, Debug, Default)]
pub struct Series(Vec<f64>);

impl Series {
    /// One run more.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The middle one; the mean of the two middle ones of an even number; 0 of none.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => 0.0,
            count if count % 2 == 1 => sorted[count / 2],
            count => (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0,
        }
    }

    /// Largest less smallest, by the median.
    pub fn spread(&self) -> f64 {
        let most = self.0.iter().copied().fold(f64::MIN, f64::max);
        let least = self.0.iter().copied().fold(f64::MAX, f64::min);
        let median = self.median();
        if median > 0.0 { (most - least) / median } else { 0.0 }
    }
}

/// The `quantile` (0 to 1) of samples in any order; 0 of none.
pub fn quantile(samples: &mut [f64], quantile: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let at = (samples.len() as f64 * quantile).ceil() as usize;
    samples
        .get(at.saturating_sub(1).min(samples.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0.0)
}

/// Prints figures as they come, and keeps them.
pub struct Report {
    scenario: &'static str,
    json: bool,
    print: Box<dyn Fn(&str)>,
    note: Box<dyn Fn(&str)>,
    lines: Vec<Line>,
}

impl Report {
    /// A report of `scenario`; `print` takes figures (stdout), `note` what happens meanwhile (stderr).
    pub fn new(
        scenario: &'static str,
        json: bool,
        print: impl Fn(&str) + 'static,
        note: impl Fn(&str) + 'static,
    ) -> Self {
        Self {
            scenario,
            json,
            print: Box::new(print),
            note: Box::new(note),
            lines: Vec::new(),
        }
    }

    /// A word to whoever waits.
    pub fn note(&self, text: &str) {
        (self.note)(text);
    }

    /// The figures so far.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// A figure without a reference.
    pub fn figure(&mut self, case: &str, metric: &'static str, unit: &'static str, runs: &Series) {
        self.add(case, metric, unit, runs, None);
    }

    /// A figure beside its reference.
    pub fn compared(
        &mut self,
        case: &str,
        metric: &'static str,
        unit: &'static str,
        runs: &Series,
        reference: (&'static str, &Series),
    ) {
        self.add(case, metric, unit, runs, Some(reference));
    }

    fn add(
        &mut self,
        case: &str,
        metric: &'static str,
        unit: &'static str,
        runs: &Series,
        reference: Option<(&'static str, &Series)>,
    ) {
        let value = runs.median();
        let reference_value = reference.map(|(_, series)| series.median());
        let line = Line {
            scenario: self.scenario,
            case: case.to_owned(),
            metric,
            value,
            unit,
            reference: reference.map(|(name, _)| name),
            reference_value,
            ratio: reference_value.filter(|found| *found > 0.0).map(|found| value / found),
            runs: runs.0.len(),
            spread: runs.spread(),
        };
        let text = if self.json {
            serde_json::to_string(&line).unwrap_or_default()
        } else {
            line.human()
        };
        (self.print)(&text);
        self.lines.push(line);
    }
}

impl Line {
    /// As a person reads it.
    pub fn human(&self) -> String {
        let mut text = format!(
            "{:<9} {:<12} {:<24} {:>12}",
            self.scenario,
            self.case,
            self.metric,
            amount(self.value, self.unit)
        );
        if let (Some(name), Some(value)) = (self.reference, self.reference_value) {
            text += &format!("   {name} {}", amount(value, self.unit));
        }
        if let Some(ratio) = self.ratio {
            text += &format!("   ratio {ratio:.2}");
        }
        text + &format!("   ({} runs, spread {:.0} %)", self.runs, self.spread * 100.0)
    }
}

/// A value as a person reads it.
pub fn amount(value: f64, unit: &str) -> String {
    match unit {
        "B/s" if value >= 1e6 => format!("{:.0} MB/s", value / 1e6),
        "B" if value >= 1e6 => format!("{:.0} MB", value / 1e6),
        "s" if value < 1.0 => format!("{:.0} us", value * 1e6),
        "1" => format!("{:.2} %", value * 100.0),
        _ if value >= 100.0 => format!("{value:.0} {unit}"),
        _ => format!("{value:.2} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[f64]) -> Series {
        Series(values.to_vec())
    }

    #[test]
    fn a_figure_is_the_median_beside_the_references_median() {
        let mut report = Report::new("catch-up", true, |_| (), |_| ());
        report.compared(
            "64KiB",
            "bytes_per_second",
            "B/s",
            &series(&[5.0, 3.0, 4.0]),
            ("tls-pipe-fsync", &series(&[8.0, 8.0, 9.0])),
        );
        let line = &report.lines()[0];
        assert_eq!(
            (line.value, line.reference_value, line.ratio),
            (4.0, Some(8.0), Some(0.5))
        );
        assert_eq!((line.runs, line.spread), (3, 0.5));
        let json = serde_json::to_value(line).unwrap();
        for name in [
            "scenario",
            "case",
            "metric",
            "value",
            "unit",
            "reference",
            "reference_value",
            "ratio",
            "runs",
            "spread",
        ] {
            assert!(json.get(name).is_some(), "{name}");
        }
    }

    #[test]
    fn without_a_reference_the_ratio_is_null() {
        let mut report = Report::new("promote", true, |_| (), |_| ());
        report.figure("1000", "milliseconds", "ms", &series(&[2.0, 1.0]));
        let json = serde_json::to_value(&report.lines()[0]).unwrap();
        assert!(json["ratio"].is_null() && json["reference"].is_null());
        assert_eq!(json["value"], 1.5);
    }

    #[test]
    fn quantiles_are_samples() {
        let mut samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(quantile(&mut samples, 0.5), 50.0);
        assert_eq!(quantile(&mut samples, 0.99), 99.0);
        assert_eq!(quantile(&mut [], 0.5), 0.0);
    }
}
