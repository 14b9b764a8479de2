//! `POST /api/v1/predict`: a series in, quantiles out, by any of the models. What is asked is judged field by field, and
//! computed on a thread of its own, one at a time: the control loop does not wait for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prescale_models::ensemble::MAX_STEPS;
use prescale_models::expert::VALUE_LIMIT;
use prescale_models::neural::{CoreKind, Pooled, shipped_as};
use prescale_models::{Bin, Ensemble, Forecast, Forecaster, Grid, Holidays, LEVELS, ModelKind, Target};
use prescale_shell::http::{
    JSON, Method, Request, Response, StatusCode, header, json, method_not_allowed, text,
};
use prescale_shell::signals::Shutdown;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, oneshot};

/// Where it is.
pub const PATH: &str = "/api/v1/predict";

/// 14 days of minutes: what the models remember of a series (FORECAST.md's protocol shows them no more).
pub const MAX_VALUES: usize = 20_160;

/// [`MAX_VALUES`] numbers of 24 bytes, the longest that a double is written with, each with its comma, and the rest.
pub const MAX_BODY_BYTES: usize = 512 * 1024;

/// As many as an ensemble of the aggregator has, and some room.
const MAX_TARGETS: usize = 16;

/// The finest grid that load is kept on; finer ones are the agents'.
const LEAST_STEP_SECONDS: u32 = 10;

/// The longest that every season's phases, quarter-hours at most, are whole numbers of.
const MOST_STEP_SECONDS: u32 = 900;

/// The year 10000: later seconds would only be another unit.
const LATEST_UNIX_SECONDS: i64 = 253_402_300_800;

/// Two weeks of minutes take an ensemble a few seconds; Prophet, which is fitted again and again, half a minute.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ensembles beside the single models, by the names that they have in `cargo xtask forecast --model`; the first is the default.
const ENSEMBLES: [&str; 5] = ["cluster", "cluster_lstm", "cluster_cnn", "headless", "node"];

/// Everything that can be asked, by name.
fn names() -> impl Iterator<Item = &'static str> {
    ENSEMBLES.into_iter().chain(CoreKind::ALL.map(CoreKind::name)).chain(alone().map(ModelKind::name))
}

/// Lets one request at a time have a thread.
#[derive(Debug)]
pub struct Predict {
    turn: Arc<Semaphore>,
    shutdown: Shutdown,
}

/// What is asked, judged.
#[derive(Debug)]
struct Asked {
    grid: Grid,
    first: i64,
    values: Vec<Option<f64>>,
    targets: Vec<Target>,
    model: String,
    holidays: Holidays,
}

#[derive(Debug)]
enum Refused {
    /// A sentence that names the field and the mend.
    Bad(String),
    /// It took longer than [`PATIENCE`], or the process stops.
    TooLong,
}

/// The answer.
#[derive(Debug, Serialize)]
struct Predicted {
    model: String,
    step_seconds: u32,
    /// End of the last value's bin: horizons count from here.
    origin_unix_seconds: i64,
    /// The probabilities of all arrays of five.
    levels: [f64; 5],
    targets: Vec<Row>,
    head: Option<Head>,
}

#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    target: Ahead,
    horizon_seconds: u32,
    quantiles: [f64; 5],
    experts: Vec<Share>,
    /// The head's share of each quantile, the experts have the rest; `null` unless it is admitted.
    head_level_weights: Option<[f64; 5]>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Ahead {
    At(u32),
    MaxOver(u32),
}

#[derive(Debug, Serialize)]
struct Share {
    model: &'static str,
    awake: bool,
    level_weights: [f64; 5],
}

#[derive(Debug, Serialize)]
struct Head {
    model: &'static str,
    awake: bool,
    admitted: bool,
    demoted: bool,
    settled: u64,
}

impl Predict {
    /// Answers until the shutdown.
    pub fn new(shutdown: Shutdown) -> Self {
        Self { turn: Arc::new(Semaphore::new(1)), shutdown }
    }

    /// Answers one request.
    pub async fn answer(&self, request: &Request) -> Response {
        if *request.method() != Method::POST {
            return method_not_allowed("POST");
        }
        // Also what keeps a foreign page in a person's browser from asking: this type needs a leave that we don't give.
        let media_type = request.headers().get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
        if media_type.and_then(|it| it.split(';').next()).is_none_or(|it| it.trim() != JSON) {
            return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-type: application/json is wanted");
        }
        if request.body().len() > MAX_BODY_BYTES {
            let sentence = format!("the body is larger than {MAX_BODY_BYTES} bytes");
            return text(StatusCode::PAYLOAD_TOO_LARGE, &sentence);
        }
        let Ok(permit) = Arc::clone(&self.turn).try_acquire_owned() else {
            return later("another forecast is being computed; ask again");
        };
        let (reply, outcome) = oneshot::channel();
        let (body, shutdown) = (request.body().clone(), self.shutdown.clone());
        let began = Instant::now();
        tokio::task::spawn_blocking(move || {
            // Who asked may have gone: the receiver goes with the connection.
            let enough = || reply.is_closed() || shutdown.is_requested() || began.elapsed() > PATIENCE;
            let outcome = judge(&body).map_err(Refused::Bad).and_then(|asked| run(&asked, enough));
            drop(permit);
            let _ = reply.send(outcome);
        });
        match outcome.await {
            Ok(Ok(predicted)) => {
                json(serde_json::to_vec(&predicted).expect("string keys and finite numbers are JSON"))
            }
            Ok(Err(Refused::Bad(sentence))) => text(StatusCode::BAD_REQUEST, &sentence),
            Ok(Err(Refused::TooLong)) => {
                let most = PATIENCE.as_secs();
                later(&format!("stopped after {most} s, or because the aggregator stops: send fewer values"))
            }
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the forecast failed; the log says how"),
        }
    }
}

fn later(sentence: &str) -> Response {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, sentence);
    response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("5"));
    response
}

fn run(asked: &Asked, enough: impl Fn() -> bool) -> Result<Predicted, Refused> {
    if let Some(core) = CoreKind::of(&asked.model) {
        let mut network = Pooled::new(shipped_as(core), asked.grid, &asked.targets);
        show(&mut network, asked, enough)?;
        return predicted(asked, network.forecast(), None);
    }
    let mut ensemble = ensemble(asked);
    show(&mut ensemble, asked, enough)?;
    predicted(asked, ensemble.forecast(), Some(&ensemble))
}

/// The ensemble that is asked for, that of a single model included.
fn ensemble(asked: &Asked) -> Ensemble {
    let (grid, targets) = (asked.grid, &asked.targets);
    if let Some(kind) = ModelKind::ALL.into_iter().find(|kind| kind.name() == asked.model) {
        return Ensemble::single_with(grid, targets, kind, &asked.holidays);
    }
    let headed = |core| Ensemble::cluster_with(grid, targets, shipped_as(core));
    match asked.model.as_str() {
        "node" => Ensemble::node(grid, targets),
        "headless" => Ensemble::headless(grid, targets),
        "cluster_lstm" => headed(CoreKind::Lstm),
        "cluster_cnn" => headed(CoreKind::Cnn),
        _ => headed(CoreKind::Gru),
    }
}

fn show(model: &mut dyn Forecaster, asked: &Asked, enough: impl Fn() -> bool) -> Result<(), Refused> {
    for (index, value) in (asked.first..).zip(&asked.values) {
        if enough() {
            return Err(Refused::TooLong);
        }
        model.observe(Bin { index, value: *value, censored: false });
    }
    Ok(())
}

fn predicted(
    asked: &Asked,
    forecast: Option<&Forecast>,
    ensemble: Option<&Ensemble>,
) -> Result<Predicted, Refused> {
    let forecast = forecast.ok_or_else(|| Refused::Bad("values: all are null".into()))?;
    let step = asked.grid.step_seconds;
    let head = ensemble.and_then(Ensemble::head);
    let admitted = head.is_some_and(|head| head.admitted && head.awake);
    let head_shares = |of: Target| ensemble?.head_shares().find(|(target, _)| *target == of);
    let row = |(target, quantiles): &(Target, prescale_models::Quantiles)| Row {
        target: match *target {
            Target::At { steps } => Ahead::At(steps),
            Target::MaxOver { steps } => Ahead::MaxOver(steps),
        },
        horizon_seconds: target.steps() * step,
        quantiles: quantiles.values(),
        experts: ensemble.map_or_else(Vec::new, |ensemble| shares(ensemble, *target)),
        head_level_weights: head_shares(*target).filter(|_| admitted).map(|(_, shares)| shares),
    };
    Ok(Predicted {
        model: asked.model.clone(),
        step_seconds: step,
        origin_unix_seconds: (forecast.origin + 1) * i64::from(step),
        levels: LEVELS,
        targets: forecast.points.iter().map(row).collect(),
        head: head.map(|it| Head {
            model: it.core.name(),
            awake: it.awake,
            admitted: it.admitted,
            demoted: it.demoted,
            settled: it.settled,
        }),
    })
}

fn shares(ensemble: &Ensemble, target: Target) -> Vec<Share> {
    let mut shares: Vec<Share> = Vec::new();
    for weight in ensemble.weights().filter(|weight| weight.target == target) {
        let model = weight.model.name();
        let at = shares.iter().position(|share| share.model == model).unwrap_or_else(|| {
            shares.push(Share { model, awake: weight.awake, level_weights: [0.0; 5] });
            shares.len() - 1
        });
        shares[at].level_weights[weight.level as usize] = weight.weight;
    }
    shares
}

/// Reads what is asked; an error names the field, what is wrong with it and what would be right.
fn judge(body: &[u8]) -> Result<Asked, String> {
    let mut fields: Map<String, Value> =
        serde_json::from_slice(body).map_err(|error| format!("the body is no JSON object: {error}"))?;
    let mut take = |name: &str| fields.remove(name).filter(|value| !value.is_null());
    let (step, start) = (take("step_seconds"), take("start_unix_seconds"));
    let (values, targets, model, holidays) =
        (take("values"), take("targets"), take("model"), take("holidays"));
    if let Some(other) = fields.keys().next() {
        let known = "step_seconds, start_unix_seconds, values, targets, model, holidays";
        return Err(format!("{other:?}: no such field; there are {known}"));
    }
    let step_seconds = step
        .as_ref()
        .and_then(Value::as_u64)
        .and_then(|it| u32::try_from(it).ok())
        .filter(|step| (LEAST_STEP_SECONDS..=MOST_STEP_SECONDS).contains(step) && 900 % step == 0)
        .ok_or_else(|| {
            let range = format!("{LEAST_STEP_SECONDS} to {MOST_STEP_SECONDS}");
            format!("step_seconds: {}; a divisor of 900 from {range}, such as 10 or 60", said(step.as_ref()))
        })?;
    let start_seconds = start
        .as_ref()
        .and_then(Value::as_i64)
        .filter(|start| (0..LATEST_UNIX_SECONDS).contains(start) && start % i64::from(step_seconds) == 0)
        .ok_or_else(|| {
            let multiple = format!("a multiple of step_seconds ({step_seconds})");
            format!("start_unix_seconds: {}; {multiple}, when the first bin began", said(start.as_ref()))
        })?;
    let grid = Grid { step_seconds };
    let model = model_of(model)?;
    Ok(Asked {
        grid,
        first: grid.index_at(start_seconds),
        values: values_of(values)?,
        targets: targets.map_or_else(|| Ok(usual()), targets_of)?,
        holidays: holidays.map_or_else(|| Ok(Holidays::default()), |it| holidays_of(it, &model))?,
        model,
    })
}

fn said(value: Option<&Value>) -> String {
    let Some(value) = value else { return "missing".into() };
    let text = value.to_string();
    // Enough to find it by.
    if text.chars().count() <= 40 { text } else { text.chars().take(40).chain("…".chars()).collect() }
}

fn values_of(values: Option<Value>) -> Result<Vec<Option<f64>>, String> {
    let wanted = format!("an array of 1 to {MAX_VALUES} numbers, the mean load of each bin, null for a gap");
    let Some(Value::Array(values)) = values else {
        return Err(format!("values: {}; {wanted}", said(values.as_ref())));
    };
    if !(1..=MAX_VALUES).contains(&values.len()) {
        return Err(format!("values: {} of them; {wanted}", values.len()));
    }
    let value = |(i, value): (usize, &Value)| match value {
        Value::Null => Ok(None),
        value => match value.as_f64().filter(|it| (0.0..=VALUE_LIMIT).contains(it)) {
            Some(load) => Ok(Some(load)),
            None => Err(format!("values[{i}]: {}; from 0 to {VALUE_LIMIT:e}, or null", said(Some(value)))),
        },
    };
    let values: Vec<Option<f64>> = values.iter().enumerate().map(value).collect::<Result<_, _>>()?;
    if values.iter().all(Option::is_none) {
        return Err("values: all are null; at least one must be a number".into());
    }
    Ok(values)
}

/// The horizons of the aggregator's own ensemble of minutes, in bins.
fn usual() -> Vec<Target> {
    let at = [1, 2, 5, 15, 30, 60].map(|steps| Target::At { steps });
    let max_over = [2, 5, 15, 30, 60].map(|steps| Target::MaxOver { steps });
    at.into_iter().chain(max_over).collect()
}

fn targets_of(targets: Value) -> Result<Vec<Target>, String> {
    let wanted = format!("an array of 1 to {MAX_TARGETS} of {{\"at\":N}} or {{\"max_over\":N}}");
    let Value::Array(asked) = &targets else {
        return Err(format!("targets: {}; {wanted}", said(Some(&targets))));
    };
    if !(1..=MAX_TARGETS).contains(&asked.len()) {
        return Err(format!("targets: {} of them; {wanted}", asked.len()));
    }
    let mut targets = Vec::with_capacity(asked.len());
    for (i, value) in asked.iter().enumerate() {
        let wanted = format!("{{\"at\":N}} or {{\"max_over\":N}}, N bins, 1 to {MAX_STEPS}");
        let wrong = || format!("targets[{i}]: {}; {wanted}", said(Some(value)));
        let entry = value.as_object().filter(|it| it.len() == 1).and_then(|it| it.iter().next());
        let (kind, steps) = entry.ok_or_else(wrong)?;
        let steps = steps.as_u64().and_then(|it| u32::try_from(it).ok());
        let steps = steps.filter(|steps| (1..=MAX_STEPS).contains(steps)).ok_or_else(wrong)?;
        let target = match kind.as_str() {
            "at" => Target::At { steps },
            "max_over" => Target::MaxOver { steps },
            _ => return Err(wrong()),
        };
        if targets.contains(&target) {
            return Err(format!("targets[{i}]: {value} is there twice; leave one out"));
        }
        targets.push(target);
    }
    Ok(targets)
}

fn holidays_of(holidays: Value, model: &str) -> Result<Holidays, String> {
    let readers = ModelKind::ALL.into_iter().filter(|kind| kind.reads_holidays());
    let readers: Vec<&str> = readers.map(ModelKind::name).collect();
    if !readers.contains(&model) {
        let readers = readers.join(" or ");
        return Err(format!("holidays: {model} reads none; leave them out, or take {readers}"));
    }
    let wanted = "an object of names, each with an array of dates, as in {\"sale\":[\"2026-11-27\"]}";
    let named: BTreeMap<String, Vec<String>> = serde_json::from_value(holidays.clone())
        .map_err(|_| format!("holidays: {}; {wanted}", said(Some(&holidays))))?;
    Holidays::of(named).map_err(|wrong| format!("holidays: {wrong}"))
}

/// Those that need the series alone: of a series that is sent no node has a forecast.
fn alone() -> impl Iterator<Item = ModelKind> {
    ModelKind::ALL.into_iter().filter(|kind| *kind != ModelKind::NodeMerge)
}

fn model_of(model: Option<Value>) -> Result<String, String> {
    let Some(model) = model else { return Ok(ENSEMBLES[0].into()) };
    match model.as_str().filter(|name| names().any(|known| known == *name)) {
        Some(name) => Ok(name.into()),
        None => {
            let names: Vec<&str> = names().collect();
            Err(format!("model: {}; one of {}", said(Some(&model)), names.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_with_its_mend() {
        let good = r#""step_seconds":60,"start_unix_seconds":0,"values":[1,null]"#;
        assert!(judge(format!("{{{good}}}").as_bytes()).is_ok());
        let long =
            format!(r#""step_seconds":60,"start_unix_seconds":0,"values":[{}1]"#, "1,".repeat(MAX_VALUES));
        let cases: [(&str, &str); 24] = [
            ("", "step_seconds: missing; a divisor of 900"),
            (r#""step_seconds":7"#, "step_seconds: 7; a divisor of 900 from 10 to 900"),
            (r#""step_seconds":5"#, "step_seconds: 5; "),
            (r#""step_seconds":"60""#, r#"step_seconds: "60"; "#),
            (r#""step_seconds":60"#, "start_unix_seconds: missing; "),
            (
                r#""step_seconds":60,"start_unix_seconds":59"#,
                "start_unix_seconds: 59; a multiple of step_seconds (60)",
            ),
            (r#""step_seconds":60,"start_unix_seconds":-60"#, "start_unix_seconds: -60; "),
            (r#""step_seconds":60,"start_unix_seconds":60000000000000"#, "start_unix_seconds: 6"),
            (r#""step_seconds":60,"start_unix_seconds":0"#, "values: missing; an array of 1 to 20160"),
            (r#""step_seconds":60,"start_unix_seconds":0,"values":[]"#, "values: 0 of them; "),
            (&long, "values: 20161 of them; "),
            (r#""step_seconds":60,"start_unix_seconds":0,"values":[null]"#, "values: all are null; "),
            (r#""step_seconds":60,"start_unix_seconds":0,"values":[1,-2]"#, "values[1]: -2"),
            (
                r#""step_seconds":60,"start_unix_seconds":0,"values":[1,2e15]"#,
                "values[1]: 2000000000000000.0; from 0 to 1e15",
            ),
            (&format!(r#"{good},"targets":[]"#), "targets: 0 of them; "),
            (&format!(r#"{good},"targets":[{{"at":361}}]"#), r#"targets[0]: {"at":361}; "#),
            (
                &format!(r#"{good},"targets":[{{"at":1}},{{"at":1}}]"#),
                "targets[1]: {\"at\":1} is there twice",
            ),
            (&format!(r#"{good},"targets":[{{"by":1}}]"#), r#"targets[0]: {"by":1}; "#),
            (
                &format!(r#"{good},"model":"oracle""#),
                "model: \"oracle\"; one of cluster, cluster_lstm, cluster_cnn, headless, node, gru",
            ),
            (
                &format!(r#"{good},"holidays":{{"sale":["2026-11-27"]}}"#),
                "holidays: cluster reads none; leave them out, or take prophet or prophet_lstm",
            ),
            (
                &format!(r#"{good},"model":"prophet","holidays":["2026-11-27"]"#),
                r#"holidays: ["2026-11-27"]; an object of names"#,
            ),
            (
                &format!(r#"{good},"model":"prophet","holidays":{{"sale":["2026-02-30"]}}"#),
                r#"holidays: holiday "sale": "2026-02-30" is no date like"#,
            ),
            (&format!(r#"{good},"model":"node_merge""#), "model: \"node_merge\"; one of cluster"),
            (&format!(r#"{good},"horizon":5"#), "\"horizon\": no such field; there are step_seconds"),
        ];
        for (body, beginning) in cases {
            let error = judge(format!("{{{body}}}").as_bytes()).expect_err(beginning);
            assert!(error.starts_with(beginning), "{error}");
        }
        for no_object in ["", "[]", "{", r#"{"values":[1e999]}"#] {
            let error = judge(no_object.as_bytes()).expect_err(no_object);
            assert!(error.starts_with("the body is no JSON object: "), "{error}");
        }
    }

    #[test]
    fn holidays_reach_the_model_that_reads_them() {
        // Six days of quarter-hours, the fourth and the seventh days of sale: noon of the seventh.
        let values: Vec<f64> = (0..6 * 96).map(|i| if i / 96 == 3 { 200.0 } else { 100.0 }).collect();
        let noon = |holidays: &str| {
            let bins = format!(r#""step_seconds":900,"start_unix_seconds":0,"values":{values:?}"#);
            let body = format!(r#"{{{bins},"targets":[{{"at":48}}],"model":"prophet"{holidays}}}"#);
            run(&judge(body.as_bytes()).expect("it is right"), || false).expect("in time").targets[0]
                .quantiles[1]
        };
        let known = noon(r#","holidays":{"sale":["1970-01-04","1970-01-07"]}"#);
        assert!(known > noon("") + 50.0, "{known}, {} without", noon(""));
    }

    #[test]
    fn every_model_forecasts_on_every_grid_that_is_taken() {
        for (name, step) in names().flat_map(|name| [10, 36, 60, 900].map(|step| (name, step))) {
            let asked = Asked {
                grid: Grid { step_seconds: step },
                first: 30_000_000,
                values: (0..200).map(|i| (i % 7 != 3).then_some(f64::from(i % 5))).collect(),
                targets: vec![Target::At { steps: MAX_STEPS }, Target::MaxOver { steps: 2 }],
                model: name.into(),
                holidays: Holidays::default(),
            };
            let predicted = run(&asked, || false).expect(name);
            assert_eq!(predicted.origin_unix_seconds, 30_000_200 * i64::from(step));
            let head = match name {
                "cluster" => Some("gru"),
                "cluster_lstm" => Some("lstm"),
                "cluster_cnn" => Some("cnn"),
                _ => None,
            };
            let head = head.filter(|_| step >= 60);
            assert_eq!(predicted.head.map(|head| head.model), head, "{name}, {step} s");
            for row in &predicted.targets {
                let all: f64 = row.experts.iter().map(|share| share.level_weights[1]).sum();
                let alone = if CoreKind::of(name).is_some() { 0.0 } else { 1.0 };
                assert!((all - alone).abs() < 1e-6, "{name}, {step} s: {row:?}");
                assert!(row.quantiles.is_sorted() && row.quantiles[4].is_finite(), "{name}: {row:?}");
            }
        }
    }
}
