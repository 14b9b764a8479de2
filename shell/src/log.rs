//! Logs on standard error: level and format.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

/// Flags of the log.
#[derive(clap::Args, Clone, Debug)]
pub struct LogArgs {
    /// What is logged: error, warn, info, debug, trace or off, also per module: `info,prescale_core=debug`
    #[arg(long, value_name = "FILTER", default_value = "info", value_parser = targets, help_heading = "Log")]
    pub log_level: Targets,
    /// Lines for people, or one JSON object a line for a log collector
    #[arg(long, value_enum, default_value_t = LogFormat::Text, help_heading = "Log")]
    pub log_format: LogFormat,
}

/// How a log line looks.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; coloured on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

// `Targets` instead of an environment filter: that one brings a regex engine along, half a megabyte that the agent
// would carry on every node.
fn targets(text: &str) -> Result<Targets, String> {
    text.parse().map_err(|error| format!("{error}; want for example `info` or `info,prescale_core=debug`"))
}

impl LogArgs {
    /// Starts logging; call it once, first thing.
    pub fn start(&self) {
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal());
        let registry = tracing_subscriber::registry();
        match self.log_format {
            LogFormat::Text => registry.with(lines.with_filter(self.log_level.clone())).init(),
            LogFormat::Json => {
                registry.with(lines.json().flatten_event(true).with_filter(self.log_level.clone())).init();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_levels_and_modules_and_refuses_nonsense() {
        assert!(targets("warn").is_ok());
        assert!(targets("info,prescale_core=debug").is_ok());
        assert!(targets("loud=very").unwrap_err().contains("want for example"));
    }
}
