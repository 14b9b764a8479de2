//! Trees of a workload's own, in the place of those of all.

use std::sync::Arc;

use prescale_models::trees::{Booster, FEATURES, Growth, Objective, Settings};
use prescale_models::{Choice, Weights};

use super::tests::Small;
use super::*;
use crate::world::WorkloadState;

fn id(name: &str) -> WorkloadId {
    WorkloadId { namespace: "shop".into(), name: name.into() }
}

/// One that answers the same whatever it is asked.
fn booster(answer: f64) -> Arc<Booster> {
    let settings = Settings {
        objective: Objective::Squared,
        growth: Growth::DepthWise { depth: 1 },
        trees: 1,
        rate: 1.0,
        ridge: 0.0,
        least_gain: 0.0,
        least_weight: 0.0,
    };
    Arc::new(Booster::fit(&[0.0; FEATURES], FEATURES, &[answer], &settings))
}

/// Workloads of these names and pods, those of the namespace `batch` without trees.
fn cluster(workloads: &[(&str, &str, u32)]) -> Cluster {
    let with_trees: Choice = Choice::of(["tuned_smoothing", "trees"]).unwrap();
    let without = (crate::choices::Pattern::of("batch/*").unwrap(), Choice::default());
    let models = Choices::new(vec![without], with_trees);
    let mut cluster = Cluster::new(ClusterSettings { models, ..ClusterSettings::default() });
    let small = Small::new(1, 0.0);
    let states = workloads.iter().map(|(namespace, name, replicas)| WorkloadState {
        id: WorkloadId { namespace: (*namespace).into(), name: (*name).into() },
        replicas: *replicas,
        ..small.state.clone()
    });
    cluster.world(small.now(), &states.collect::<Vec<_>>());
    cluster
}

#[test]
fn the_dearest_are_those_with_the_most_pods_among_those_with_trees() {
    let cluster = cluster(&[
        ("shop", "cart", 3),
        ("shop", "web", 9),
        ("batch", "report", 40),
        ("shop", "api", 3),
        ("shop", "old", 0),
    ]);
    let named = |most| cluster.dearest(most).into_iter().map(|id| id.name).collect::<Vec<_>>();
    assert_eq!(named(3), ["web", "api", "cart"]);
    assert_eq!(named(0), [""; 0]);
    assert_eq!(named(99).len(), 4);
}

#[test]
fn a_workload_runs_its_own_trees_whatever_becomes_of_those_of_all() {
    let mut cluster = cluster(&[("shop", "web", 1), ("shop", "cart", 1)]);
    let runs = |cluster: &Cluster, name: &str| -> f64 {
        let ensembles = cluster.workloads[&id(name)].forecasts.ensembles();
        let fitted: Vec<Weights> = ensembles.into_iter().flat_map(|it| it.fitted()).collect();
        // On the grid of minutes alone.
        let [Weights::Trees(booster)] = fitted.as_slice() else { panic!("{} boosters", fitted.len()) };
        booster.predict(&[0.0; FEATURES])
    };
    let fitted = |of_all: f64, own: &[(&str, f64)]| {
        let mut fitted = Fitted::shipped();
        fitted.pooled.set(Weights::from(booster(of_all)));
        fitted.own = own.iter().map(|(name, answer)| (id(name), booster(*answer))).collect();
        fitted
    };
    cluster.set_weights(fitted(1.0, &[("web", 2.0)]));
    assert_eq!((runs(&cluster, "web"), runs(&cluster, "cart")), (2.0, 1.0));
    cluster.set_weights(fitted(3.0, &[("web", 2.0)]));
    assert_eq!((runs(&cluster, "web"), runs(&cluster, "cart")), (2.0, 3.0));
    cluster.set_weights(fitted(3.0, &[("cart", 4.0)]));
    assert_eq!((runs(&cluster, "web"), runs(&cluster, "cart")), (3.0, 4.0));
    // One that is told of later begins with its own.
    cluster.set_weights(fitted(3.0, &[("late", 5.0)]));
    let small = Small::new(1, 0.0);
    let states = ["web", "cart", "late"].map(|name| WorkloadState { id: id(name), ..small.state.clone() });
    cluster.world(small.now(), &states);
    assert_eq!(["web", "cart", "late"].map(|name| runs(&cluster, name)), [3.0, 3.0, 5.0]);
}
