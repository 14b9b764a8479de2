//! The nodes' merged forecast as one of the models.

use prescale_models::Choice;

use super::tests::Small;
use super::*;

/// A workload whose node says that twice its steady load comes, watched for longer than the hour in which smoothing is alone.
fn watched(models: &[&str]) -> Small {
    let mut small = Small::new(4, 150.0);
    let models = Choice::of(models.iter().copied()).unwrap().into();
    small.cluster = Cluster::new(ClusterSettings { models, ..ClusterSettings::default() });
    small.expected = Some(300.0);
    small.seconds(4100);
    small
}

/// Whether each model is awake on the grid of 10 s, and how many of its forecasts were settled.
fn standing(small: &Small, name: &str) -> Vec<(bool, u64)> {
    let scores = small.view().scores;
    let fast = scores.iter().filter(|score| score.bin_seconds == 10).flat_map(|score| &score.models);
    fast.filter(|model| model.name == name).map(|model| (model.awake, model.settled)).collect()
}

#[test]
fn what_the_nodes_expect_is_weighed_and_scored_while_they_say_it() {
    let mut small = watched(&["tuned_smoothing", "node_merge"]);
    let of = standing(&small, "node_merge");
    assert!(of.len() == 4 && of.iter().all(|(awake, settled)| *awake && *settled > 0), "{of:?}");
    assert!(standing(&watched(&["tuned_smoothing"]), "node_merge").is_empty());

    // They go on reporting, and no longer forecast: what was merged last outlives its reach by nothing.
    small.expected = None;
    small.seconds(60);
    assert!(standing(&small, "node_merge").iter().all(|(awake, _)| !awake));
    let settled = standing(&small, "node_merge");
    small.seconds(300);
    let later = standing(&small, "node_merge");
    // What was said before is still settled, up to five minutes after; nothing else is.
    assert!(
        later.iter().zip(&settled).all(|(later, before)| later.1 <= before.1 + 30),
        "{later:?} {settled:?}"
    );
    small.seconds(300);
    assert_eq!(standing(&small, "node_merge"), later, "asleep it is not scored");
    small.expected = Some(150.0);
    small.seconds(20);
    assert!(standing(&small, "node_merge").iter().all(|(awake, _)| *awake));
}
