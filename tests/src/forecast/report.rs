//! What `cargo xtask evaluate` shows: a table for the terminal, and a page with plots in one file.

use std::fmt::Write;

use super::metrics::{Metrics, relative};
use super::run::Row;
use super::trace::Trace;

/// One model on one trace.
pub struct Entry {
    /// Its errors.
    pub metrics: Metrics,
    /// What it forecast.
    pub rows: Vec<Row>,
    /// Time per bin: learning from it and forecasting anew.
    pub microseconds: f64,
}

/// All models on all traces.
pub struct Report<'a> {
    traces: &'a [Trace],
    models: Vec<Model>,
}

struct Model {
    name: &'static str,
    fit_seconds: f64,
    entries: Vec<Entry>,
}

/// Heads of the table, and how a value of each is written.
const HEADS: [&str; 14] = [
    "model", "relWQL", "RMSE", "MSE", "MAE", "MAPE", "MASE", "WQL", "cov95", "cov99", "prov", "relProv",
    "fit s", "µs/bin",
];

impl<'a> Report<'a> {
    /// Without models.
    pub fn new(traces: &'a [Trace]) -> Self {
        Self { traces, models: Vec::new() }
    }

    /// Adds a model with one entry per trace, in their order.
    ///
    /// # Panics
    /// If an entry is missing.
    pub fn add(&mut self, name: &'static str, fit_seconds: f64, entries: Vec<Entry>) {
        assert_eq!(entries.len(), self.traces.len(), "an entry for every trace");
        self.models.push(Model { name, fit_seconds, entries });
    }

    /// Models by relWQL, the best first, each with its line of the table.
    fn lines(&self) -> Vec<(f64, &Model, Vec<String>)> {
        let last = self.models.iter().find(|m| m.name == "last_value");
        let mut lines: Vec<_> = self
            .models
            .iter()
            .map(|model| {
                let mean = |of: fn(&Metrics) -> f64| {
                    model.entries.iter().map(|e| of(&e.metrics)).sum::<f64>() / model.entries.len() as f64
                };
                let ratio = |of: fn(&Metrics) -> f64| {
                    let values = |m: &Model| m.entries.iter().map(|e| of(&e.metrics)).collect::<Vec<_>>();
                    last.map_or(f64::NAN, |last| relative(&values(model), &values(last)))
                };
                let mapes: Vec<f64> = model.entries.iter().filter_map(|e| e.metrics.mape).collect();
                let mape = match mapes.len() {
                    0 => "–".to_owned(),
                    n => format!("{:.3} ({n})", mapes.iter().sum::<f64>() / n as f64),
                };
                let time =
                    model.entries.iter().map(|e| e.microseconds).sum::<f64>() / model.entries.len() as f64;
                let relative = ratio(|m| m.wql);
                let line = vec![
                    model.name.to_owned(),
                    format!("{relative:.3}"),
                    format!("{:.4}", mean(|m| m.rmse)),
                    format!("{:.4e}", mean(|m| m.mse)),
                    format!("{:.4}", mean(|m| m.mae)),
                    mape,
                    format!("{:.3}", mean(|m| m.mase)),
                    format!("{:.3}", mean(|m| m.wql)),
                    format!("{:.3}", mean(|m| m.coverage95)),
                    format!("{:.3}", mean(|m| m.coverage99)),
                    format!("{:.3}", mean(|m| m.provisioning)),
                    format!("{:.3}", ratio(|m| m.provisioning)),
                    format!("{:.2}", model.fit_seconds),
                    format!("{time:.2}"),
                ];
                (relative, model, line)
            })
            .collect();
        lines.sort_by(|a, b| a.0.total_cmp(&b.0));
        lines
    }

    /// The table for a terminal: means over the traces, the best relWQL first.
    pub fn table(&self) -> String {
        let mut rows = vec![HEADS.map(str::to_owned).to_vec()];
        rows.extend(self.lines().into_iter().map(|(_, _, line)| line));
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..HEADS.len()).map(width).collect();
        let mut text = format!(
            "{} traces; means over them. MAPE where no outcome is 0 (on how many traces); rel: geometric mean of the \
             ratio to last_value; prov: 5:1 loss at q90.\n",
            self.traces.len()
        );
        for row in rows {
            for (i, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let fill = " ".repeat(width - cell.chars().count());
                text += &if i == 0 { format!("{cell}{fill}") } else { format!("  {fill}{cell}") };
            }
            text.push('\n');
        }
        text
    }

    /// The page: the table, the models' scores as bars, and the best model's forecasts beside what came.
    pub fn html(&self) -> String {
        let lines = self.lines();
        let mut page = String::from(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Prescale: evaluation</title><style>\
             body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;color:#222}\
             table{border-collapse:collapse}td,th{padding:.2rem .6rem;text-align:right}\
             td:first-child,th:first-child{text-align:left}tr:nth-child(even){background:#f3f5f7}\
             svg{display:block;width:100%;height:auto}text{font:12px system-ui,sans-serif;fill:#444}</style>\
             <h1>Forecasts, scored</h1>",
        );
        let count = self.traces.len();
        let _ = write!(
            page,
            "<p>{count} traces, means over them. Lower is better; cov95 should be 0.95. relWQL and relProv: geometric \
             mean of the ratio to <code>last_value</code>. MAPE only where no outcome is 0, on how many traces in \
             brackets. prov: 5:1 provisioning loss at the 90 % quantile.</p><table><tr>"
        );
        for head in HEADS {
            let _ = write!(page, "<th>{head}</th>");
        }
        for (_, _, line) in &lines {
            page += "</tr><tr>";
            for cell in line {
                let _ = write!(page, "<td>{cell}</td>");
            }
        }
        page += "</tr></table><h2>relWQL</h2>";
        bars(&mut page, &lines);
        if let Some((_, best, _)) = lines.first() {
            let _ = write!(
                page,
                "<h2>{} against what came</h2><p>Line: what came. Band: 10 % to 95 % quantile, forecast that long \
                 before. Dots: the median.</p>",
                best.name
            );
            for (trace, entry) in self.traces.iter().zip(&best.entries) {
                plot(&mut page, trace, entry);
            }
        }
        page += "</html>\n";
        page
    }
}

fn bars(page: &mut String, lines: &[(f64, &Model, Vec<String>)]) {
    let height = 22 * lines.len();
    let _ =
        write!(page, "<svg viewBox=\"0 0 1000 {height}\" role=\"img\" aria-label=\"relWQL of each model\">");
    let most = lines.iter().map(|l| l.0).filter(|v| v.is_finite()).fold(1.0, f64::max);
    for (i, (value, model, _)) in lines.iter().enumerate() {
        let (y, width) = (22 * i, if value.is_finite() { value / most * 700.0 } else { 0.0 });
        let _ = write!(
            page,
            "<text x=\"0\" y=\"{}\">{}</text><rect x=\"180\" y=\"{}\" width=\"{width:.1}\" height=\"16\" \
             fill=\"#3573b9\"/><text x=\"{:.1}\" y=\"{}\">{value:.3}</text>",
            y + 14,
            model.name,
            y + 2,
            width + 188.0,
            y + 14,
        );
    }
    *page += "</svg>";
}

/// The middle horizon's forecasts over the test part.
fn plot(page: &mut String, trace: &Trace, entry: &Entry) {
    let mut horizons: Vec<u32> = entry.rows.iter().map(|r| r.horizon).collect();
    horizons.sort_unstable();
    let Some(&horizon) = horizons.get(horizons.len() / 2) else { return };
    let rows: Vec<&Row> = entry.rows.iter().filter(|r| r.horizon == horizon).collect();
    let truth = |row: &Row| trace.counts[row.origin + (horizon / trace.step_seconds) as usize];
    let most = rows.iter().map(|r| truth(r).max(r.quantiles.values()[3])).fold(1e-9, f64::max);
    let x = |i: usize| 1000.0 * i as f64 / rows.len().max(2) as f64;
    let y = |value: f64| 190.0 - 180.0 * value / most;
    let line = |of: &dyn Fn(&Row) -> f64| -> Vec<String> {
        rows.iter().enumerate().map(|(i, r)| format!("{:.1},{:.1}", x(i), y(of(r)))).collect()
    };
    let (low, high) = (line(&|r| r.quantiles.values()[0]), line(&|r| r.quantiles.values()[3]));
    let band = low.iter().chain(high.iter().rev()).cloned().collect::<Vec<_>>().join(" ");
    let _ = write!(
        page,
        "<h3>{}</h3><svg viewBox=\"0 0 1000 200\" role=\"img\" aria-label=\"{0}\"><polygon points=\"{band}\" \
         fill=\"#bcd4ee\"/><polyline points=\"{}\" fill=\"none\" stroke=\"#222\"/>",
        escape(&trace.name),
        line(&truth).join(" "),
    );
    for (i, row) in rows.iter().enumerate() {
        let _ = write!(
            page,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"1.5\" fill=\"#c2452d\"/>",
            x(i),
            y(row.quantiles.median())
        );
    }
    let m = &entry.metrics;
    let _ = write!(
        page,
        "<text x=\"4\" y=\"12\">{horizon} s ahead, up to {most:.0} a bin · WQL {:.3}, MASE {:.3}, cov95 {:.3}</text></svg>",
        m.wql, m.mase, m.coverage95
    );
}

/// A file's name may hold anything.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use prescale_models::Quantiles;

    #[test]
    fn the_best_model_comes_first_and_names_are_escaped() {
        let traces = [Trace { name: "a<b>".into(), start: 0, step_seconds: 60, counts: vec![5.0; 100] }];
        let entry = |wql: f64| Entry {
            metrics: Metrics { wql, mape: None, ..Metrics::default() },
            rows: vec![Row {
                origin: 10,
                horizon: 300,
                quantiles: Quantiles::new([1.0, 2.0, 3.0, 4.0, 5.0]).unwrap(),
            }],
            microseconds: 1.0,
        };
        let mut report = Report::new(&traces);
        report.add("last_value", 0.0, vec![entry(0.4)]);
        report.add("cluster", 0.0, vec![entry(0.2)]);
        let table = report.table();
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[2].starts_with("cluster") && lines[2].contains("0.500"), "{table}");
        assert!(lines[3].starts_with("last_value") && lines[3].contains("1.000"), "{table}");
        let html = report.html();
        assert!(html.contains("a&lt;b&gt;") && !html.contains("a<b>"), "{html}");
        assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
    }
}
