//! Which models forecast which workloads: a choice for all, and others by namespace and name.

use prescale_models::{Choice, Holidays, WeightsKind};
use thiserror::Error;

use crate::world::WorkloadId;

/// Names of workloads: `NAMESPACE/NAME`, where `*` stands for any characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    namespace: String,
    name: String,
}

/// Why a text names no workloads.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no NAMESPACE/NAME of workloads; * stands for any characters, as in batch/* or */web")]
pub struct NoPattern(String);

impl Pattern {
    /// # Errors
    /// [`NoPattern`], unless there is one `/` with something on both sides.
    pub fn of(text: &str) -> Result<Self, NoPattern> {
        match text.split('/').map(str::trim).collect::<Vec<_>>().as_slice() {
            [namespace, name] if !namespace.is_empty() && !name.is_empty() => {
                Ok(Self { namespace: (*namespace).to_owned(), name: (*name).to_owned() })
            }
            _ => Err(NoPattern(text.to_owned())),
        }
    }

    /// Whether it names this workload.
    pub fn names(&self, id: &WorkloadId) -> bool {
        fits(&self.namespace, &id.namespace) && fits(&self.name, &id.name)
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The models of every workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choices {
    rules: Vec<(Pattern, Choice)>,
    others: Choice,
}

impl Choices {
    /// The first rule that names a workload holds for it, `others` where none does.
    pub fn new(rules: Vec<(Pattern, Choice)>, others: Choice) -> Self {
        Self { rules, others }
    }

    /// The same, their models told of these holidays.
    pub fn with_holidays(self, holidays: &Holidays) -> Self {
        let told = |choice: Choice| choice.with_holidays(holidays.clone());
        let rules = self.rules.into_iter().map(|(pattern, choice)| (pattern, told(choice)));
        Self { rules: rules.collect(), others: told(self.others) }
    }

    /// The models of this workload.
    pub fn of(&self, id: &WorkloadId) -> &Choice {
        self.rules.iter().find(|(pattern, _)| pattern.names(id)).map_or(&self.others, |(_, choice)| choice)
    }

    /// Every choice, whether or not a workload has it.
    pub fn all(&self) -> impl Iterator<Item = &Choice> {
        self.rules.iter().map(|(_, choice)| choice).chain([&self.others])
    }

    /// The kinds of weights that some choice runs with, each once: these are fitted to the cluster's own history.
    pub fn weights(&self) -> Vec<WeightsKind> {
        let chosen = |kind: &WeightsKind| self.all().any(|choice| choice.has(kind.name()));
        WeightsKind::ALL.into_iter().filter(chosen).collect()
    }
}

impl From<Choice> for Choices {
    fn from(others: Choice) -> Self {
        Self::new(Vec::new(), others)
    }
}

/// Whether `text` is the pattern, each of whose `*` may be anything: what lies between them is looked for from the left,
/// the ends are anchored.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let (between, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in between.split('*') {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(namespace: &str, name: &str) -> WorkloadId {
        WorkloadId { namespace: namespace.into(), name: name.into() }
    }

    #[test]
    fn a_star_is_any_characters_and_the_rest_is_meant() {
        let fit = [
            ("web", "web"),
            ("*", ""),
            ("*", "web"),
            ("w*b", "wb"),
            ("w*b", "web-b"),
            ("*-*-api", "a-b-c-api"),
        ];
        for (pattern, text) in fit {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        let others = [
            ("web", "webs"),
            ("w*b", "web-1"),
            ("w*b", "b"),
            ("a*a", "a"),
            ("*-*-api", "b-api"),
            ("we", "web"),
        ];
        for (pattern, text) in others {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn the_first_rule_that_names_a_workload_holds() {
        let of = |names: &[&str]| Choice::of(names.iter().copied()).unwrap();
        let (few, more) = (of(&["tuned_smoothing"]), of(&["tuned_smoothing", "arima"]));
        let rule = |pattern, choice: &Choice| (Pattern::of(pattern).unwrap(), choice.clone());
        let choices = Choices::new(vec![rule("batch/*", &few), rule("*/web", &more)], Choice::default());
        assert_eq!(choices.of(&id("batch", "web")), &few);
        assert_eq!(choices.of(&id("shop", "web")), &more);
        assert_eq!(choices.of(&id("shop", "api")), &Choice::default());
        assert_eq!(choices.all().count(), 3);
        let weights =
            |choices: Choices| choices.weights().into_iter().map(WeightsKind::name).collect::<Vec<_>>();
        assert_eq!(weights(choices.clone()), ["gru"]);
        let headed = |core| rule("a/b", &of(&["tuned_smoothing", core]));
        let rules = vec![headed("cnn"), headed("trees"), headed("lstm"), headed("cnn")];
        assert_eq!(weights(Choices::new(rules, few.clone())), ["lstm", "cnn", "trees"]);
        assert!(weights(Choices::from(few.clone())).is_empty());

        let holidays = Holidays::of([("sale", vec!["2026-11-27"])]).unwrap();
        let told = choices.with_holidays(&holidays);
        assert!(told.all().count() == 3 && told.all().all(|choice| choice.holidays() == &holidays));
        assert_eq!(told.of(&id("batch", "web")), &few.with_holidays(holidays));
    }

    #[test]
    fn what_names_no_workloads_is_a_sentence() {
        for text in ["", "web", "a/b/c", "/web", "shop/", " / "] {
            let said = Pattern::of(text).unwrap_err().to_string();
            assert!(said.contains(&format!("{text:?}")) && said.contains("NAMESPACE/NAME"), "{said}");
        }
    }
}
