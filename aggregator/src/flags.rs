//! The command line: a wrong flag stops the start, and `--help` teaches.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::bail;
use prescale_core::choices::{Choices, Pattern};
use prescale_models::{Choice, WeightsKind};
use prescale_shell::clock::ClockArgs;
use prescale_shell::log::LogArgs;

use crate::target::TargetAddress;
use crate::training::schedule::{Share, TrainAt};
use crate::training::versions::MOST_OWN;

/// Takes in what the node agents measure, forecasts each workload's load, plans its replicas and carries the plan out.
#[derive(clap::Parser, Debug)]
#[command(
    name = "prescale-aggregator",
    version,
    after_help = "The page is at /, the JSON API at /api/v1/workloads, Prometheus metrics at /metrics,\n\
        probes at /healthz and /readyz. Agents report to /v1/reports and take their watch list from /v1/watch.\n\
        SIGTERM stops it: what is in flight is answered first; a second one ends it at once."
)]
pub struct Flags {
    /// Where agents, people and Prometheus reach it
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Whom to scale: `kubernetes` is the cluster of KUBECONFIG or the one that this runs in, `local=HOST:PORT` a
    /// supervisor of worker processes, such as the demo's
    #[arg(long, value_name = "kubernetes|local=HOST:PORT")]
    pub target: TargetAddress,
    /// The secret that agents must send as `authorization: Bearer`; read anew for each request.
    /// Without it anyone who reaches --listen may report, so --listen must then be a loopback address
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Take tokens of this ServiceAccount (the agents'), as NAMESPACE:NAME, with the audience `prescale`; the API server
    /// is asked about each, and an agent may only report its own node
    #[arg(long, value_name = "NAMESPACE:NAME", conflicts_with = "token_file", value_parser = account)]
    pub review_tokens_of: Option<String>,
    /// The certificate that agents see (PEM, a chain with our own first): --listen then speaks TLS only. Read anew when
    /// the file changes; connections go on
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Take reports and tokens unencrypted on a --listen that is not loopback: only where the network itself is trusted
    /// or encrypts
    #[arg(long, conflicts_with = "tls_cert")]
    pub allow_plain_http: bool,
    /// Where people find the page and the JSON API, in plain HTTP: a loopback address, which a port-forward reaches.
    /// Without it they are on --listen
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "page_token_file")]
    pub page_listen: Option<SocketAddr>,
    /// The secret that the page and the JSON API want on --listen: a browser asks for it as a password (any name will
    /// do), programs send it as `authorization: Bearer`; read anew for each request
    #[arg(long, value_name = "FILE")]
    pub page_token_file: Option<PathBuf>,
    /// Keep every workload's state (history, forecasters, windows, lead times) in this directory and go on from it after a
    /// restart; without it a restart begins anew
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Another replica of the aggregator, as https://HOST:PORT; may be repeated. A standby keeps the leader's state, and a
    /// start takes it before anything else. Its own is left out: the one whose host begins with $POD_NAME
    #[arg(long, value_name = "URL")]
    pub peer: Vec<String>,
    /// The token that is sent to --peer; without it the one of --token-file
    #[arg(long, value_name = "FILE", requires = "peer")]
    pub peer_token_file: Option<PathBuf>,
    /// The authority (PEM) that signs the certificates of --peer; https:// needs it
    #[arg(long, value_name = "FILE", requires = "peer")]
    pub peer_ca: Option<PathBuf>,
    /// With --review-tokens-of: the ServiceAccount (the replicas' own) that may read this replica's state
    #[arg(long, value_name = "NAMESPACE:NAME", requires = "review_tokens_of", value_parser = account)]
    pub review_peers_of: Option<String>,
    /// When to train the networks and the trees among the models on this cluster's own history, each night in UTC. The replica that leads trains in
    /// the background, and takes new weights on when they are better on the newest day
    #[arg(long, value_name = "HH:MM|off", default_value = "off")]
    pub train_at: TrainAt,
    /// Share of one core that a training may take, at the lowest priority
    #[arg(long, value_name = "SHARE", default_value = "0.2")]
    pub train_cpu_share: Share,
    /// So many workloads at most, those with the most pods, are fitted trees of their own in a training, and run them where they
    /// are better than the trees of all on the newest day; needs the model `trees`
    #[arg(long, value_name = "N", default_value = "0", value_parser = own_trees)]
    pub own_trees: usize,
    /// Load from before our time, imported before the first plan: CSV with the line
    /// `namespace,workload,unix_seconds,requests_per_second` first, then one line per bin of fixed length
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// Which models forecast the workloads, by name, at most one of the networks gru, lstm and cnn among them; GET
    /// /api/v1/models lists all. Forecasters that were saved with others learn anew from the saved history
    #[arg(long, value_name = "NAME,…", value_parser = choice, default_value_t = Choice::default())]
    pub models: Choice,
    /// Other models for the workloads of this namespace and name, in which * stands for any characters; may be repeated,
    /// the first that names a workload holds for it
    #[arg(long, value_name = "NAMESPACE/NAME=NAME,…", value_parser = choice_for)]
    pub models_for: Vec<(Pattern, Choice)>,
    /// Days that the models prophet and prophet_lstm are told of beforehand, in UTC: JSON, names with their dates, as in
    /// {"sale": ["2026-11-27", "2026-12-24"]}; at most 12 names. The days of one name move the load alike: what they do is
    /// learned from those of the last two weeks
    #[arg(long, value_name = "FILE")]
    pub holidays: Option<PathBuf>,
    /// Demo only: the finished runs (JSON) that the page compares at the end; may appear later
    #[arg(long, value_name = "FILE")]
    pub comparison: Option<PathBuf>,
    /// The clock.
    #[command(flatten)]
    pub clock: ClockArgs,
    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
}

impl Flags {
    /// What clap can't see: flags that don't go together.
    ///
    /// # Errors
    /// One sentence that names them.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.token_file.is_none() && self.review_tokens_of.is_none() && !self.listen.ip().is_loopback() {
            bail!(
                "--listen {} without --token-file or --review-tokens-of would take reports from anyone: give one, or a \
                 loopback address",
                self.listen
            );
        }
        if self.tls_cert.is_none() && !self.allow_plain_http && !self.listen.ip().is_loopback() {
            bail!(
                "--listen {} without --tls-cert and --tls-key would take tokens unencrypted: give both, or allow it by \
                 --allow-plain-http",
                self.listen
            );
        }
        if let Some(page) = self.page_listen.filter(|it| !it.ip().is_loopback()) {
            bail!("--page-listen {page} would show the page to anyone: give a loopback address");
        }
        if self.page_listen.is_none() && self.page_token_file.is_none() && !self.listen.ip().is_loopback() {
            bail!(
                "--listen {} would show the page and the API to anyone: give --page-listen 127.0.0.1:8081 or \
                 --page-token-file",
                self.listen
            );
        }
        let mut patterns = self.models_for.iter().enumerate();
        if let Some((_, (pattern, _))) =
            patterns.find(|(i, (pattern, _))| self.models_for[..*i].iter().any(|(other, _)| other == pattern))
        {
            bail!("--models-for {pattern} is there twice: only the first would count");
        }
        let choices = Choices::new(self.models_for.clone(), self.models.clone());
        if self.holidays.is_some() && !choices.all().any(Choice::reads_holidays) {
            bail!(
                "--holidays: none of the models reads them; prophet and prophet_lstm do (--models, --models-for)"
            );
        }
        if self.own_trees > 0 && !choices.weights().contains(&WeightsKind::Trees) {
            bail!("--own-trees: no workload's models have trees among them (--models, --models-for)");
        }
        if self.target == TargetAddress::Kubernetes && self.clock.clock_speed != 1.0 {
            bail!("--target kubernetes runs in real time: leave --clock-speed out");
        }
        Ok(())
    }
}

fn own_trees(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|it| *it <= MOST_OWN).ok_or_else(|| format!("want 0 to {MOST_OWN} workloads"))
}

fn choice(text: &str) -> Result<Choice, String> {
    Choice::of(text.split(',').map(str::trim)).map_err(|unfit| unfit.to_string())
}

fn choice_for(text: &str) -> Result<(Pattern, Choice), String> {
    let (workloads, models) = text
        .split_once('=')
        .ok_or("want NAMESPACE/NAME=NAME,…, as in batch/*=tuned_smoothing,holt_winters")?;
    Ok((Pattern::of(workloads).map_err(|it| it.to_string())?, choice(models)?))
}

fn account(text: &str) -> Result<String, String> {
    match text.split(':').collect::<Vec<_>>().as_slice() {
        [namespace, name] if !namespace.is_empty() && !name.is_empty() => Ok(text.to_owned()),
        _ => Err("want NAMESPACE:NAME of a ServiceAccount".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn parse(line: &str) -> Result<Flags, clap::Error> {
        Flags::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn wrong_flags_stop_the_start() {
        assert!(parse("aggregator").unwrap_err().to_string().contains("--target"));
        for wrong in ["nowhere", "local=", "local=a:b", "kube=x:1", "local=http://x:1/p?q"] {
            assert!(parse(&format!("aggregator --target {wrong}")).is_err(), "{wrong}");
        }
        assert!(parse("aggregator --target local=127.0.0.1:1 --listen 80").is_err());
    }

    #[test]
    fn models_are_chosen_by_workload_and_what_is_wrong_is_said() {
        let flags = |more: &str| parse(&format!("aggregator --target kubernetes {more}"));
        let said = |more: &str| flags(more).unwrap_err().to_string();
        let two = "--models-for batch/*=tuned_smoothing --models-for */web=tuned_smoothing,arima";
        let chosen = flags(two).unwrap();
        assert!(chosen.check().is_ok());
        let rules: Vec<String> =
            chosen.models_for.iter().map(|(pattern, choice)| format!("{pattern} {choice}")).collect();
        assert_eq!(rules, ["batch/* tuned_smoothing", "*/web tuned_smoothing,arima"]);
        assert!(said("--models-for batch=tuned_smoothing").contains("NAMESPACE/NAME"));
        assert!(said("--models-for batch/*").contains("as in batch/*="));
        assert!(said("--models-for batch/*=tuned_smoothing,prophit").contains("\"prophit\" is no model"));
        assert!(said("--models-for batch/*=arima").contains("tuned_smoothing must be"));
        assert!(said("--models tuned_smoothing,gru,cnn").contains("gru and cnn are both heads"));
        let twice = flags("--models-for a/b=tuned_smoothing --models-for a/b=tuned_smoothing,arima").unwrap();
        assert!(twice.check().unwrap_err().to_string().contains("a/b is there twice"));
    }

    #[test]
    fn holidays_want_a_model_that_reads_them() {
        let check = |more: &str| {
            parse(&format!("aggregator --target kubernetes --holidays f {more}")).unwrap().check()
        };
        assert!(check("").unwrap_err().to_string().contains("prophet_lstm"));
        assert!(check("--models tuned_smoothing,prophet").is_ok());
        assert!(check("--models-for a/b=tuned_smoothing,prophet_lstm").is_ok());
    }

    #[test]
    fn a_cluster_runs_in_real_time_and_reviews_one_kind_of_token() {
        let flags = |more| parse(&format!("aggregator --target kubernetes {more}"));
        assert!(flags("").unwrap().check().is_ok());
        assert!(
            flags("--clock-speed 60").unwrap().check().unwrap_err().to_string().contains("--clock-speed")
        );
        assert!(flags("--listen 127.0.0.1:8080 --review-tokens-of a:b").unwrap().check().is_ok());
        assert!(flags("--review-tokens-of a").is_err());
        assert!(flags("--review-tokens-of a:b --token-file f").is_err());
    }

    #[test]
    fn an_open_door_needs_a_token() {
        let flags =
            |listen| parse(&format!("aggregator --target local=127.0.0.1:1 --listen {listen}")).unwrap();
        assert!(flags("127.0.0.1:8080").check().is_ok());
        assert!(flags("[::1]:8080").check().is_ok());
        assert!(flags("0.0.0.0:8080").check().unwrap_err().to_string().contains("--token-file"));
    }

    #[test]
    fn the_page_is_on_loopback_or_behind_a_secret() {
        let flags = |more: &str| {
            let open = "--target kubernetes --review-tokens-of a:b --allow-plain-http --listen 0.0.0.0:8080";
            parse(&format!("aggregator {open} {more}"))
        };
        assert!(flags("").unwrap().check().unwrap_err().to_string().contains("--page-token-file"));
        assert!(flags("--page-token-file f").unwrap().check().is_ok());
        assert!(flags("--page-listen [::1]:8081").unwrap().check().is_ok());
        let open = flags("--page-listen 0.0.0.0:8081").unwrap().check().unwrap_err().to_string();
        assert!(open.contains("loopback"), "{open}");
        assert!(flags("--page-listen 127.0.0.1:8081 --page-token-file f").is_err());
    }

    #[test]
    fn what_leaves_the_machine_is_encrypted_or_said_to_be_plain() {
        let page = "--page-listen 127.0.0.1:8081";
        let flags = |more: &str| {
            parse(&format!("aggregator --target kubernetes --review-tokens-of a:b {page} {more}"))
        };
        let open = "--listen 0.0.0.0:8080";
        assert!(flags(open).unwrap().check().unwrap_err().to_string().contains("--allow-plain-http"));
        assert!(flags(&format!("{open} --allow-plain-http")).unwrap().check().is_ok());
        assert!(flags(&format!("{open} --tls-cert c --tls-key k")).unwrap().check().is_ok());
        assert!(flags("--tls-cert c").unwrap_err().to_string().contains("--tls-key"));
        assert!(flags("--tls-key k").unwrap_err().to_string().contains("--tls-cert"));
        assert!(flags("--tls-cert c --tls-key k --allow-plain-http").is_err());
    }
}
