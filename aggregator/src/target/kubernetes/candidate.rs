//! Holds the Lease: looks at it as often as the [`Election`] says, renews it while it is ours, gives it back at the end.

use std::sync::Arc;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use tokio::time::Instant;

use super::lease::{Election, LASTS, Move, PERIOD, Record};
use super::shared::{Shared, short};
use super::telling::Telling;

/// The Lease's name; its namespace is the aggregator's own.
pub(super) const LEASE: &str = "prescale-aggregator";

/// Stands for election for ever. Its calls don't wait for their turn: a Lease that is lost to our own rate limit would
/// stop every write.
pub(super) async fn run(shared: Arc<Shared>) {
    let api: Api<Lease> = Api::namespaced(shared.client.clone(), &shared.namespace);
    let mut election = Election::new(shared.name.clone());
    loop {
        let begin = Instant::now();
        let result = match tokio::time::timeout(PERIOD, look(&shared, &api, &mut election)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(short(&error)),
            Err(_) => Err(format!("no answer within {} s", PERIOD.as_secs())),
        };
        report(&shared, &election, result);
        tokio::time::sleep_until(begin + election.pause(begin)).await;
    }
}

async fn look(shared: &Shared, api: &Api<Lease>, election: &mut Election) -> Result<(), kube::Error> {
    let lease = api.get_opt(LEASE).await?;
    let record = lease.as_ref().map(|it| Record {
        holder: it.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default(),
        resource_version: it.metadata.resource_version.clone().unwrap_or_default(),
    });
    let sent = Instant::now();
    let (params, now) = (PostParams::default(), Some(MicroTime(Timestamp::now())));
    let wrote = match election.look(sent, record) {
        Move::Wait => return Ok(()),
        Move::Create => {
            api.create(
                &params,
                &lease_of(shared, None, LeaseSpec { acquire_time: now, ..LeaseSpec::default() }),
            )
            .await
        }
        Move::Take { resource_version, changes_hands } => {
            let mut spec = lease.and_then(|it| it.spec).unwrap_or_default();
            if changes_hands {
                spec.acquire_time = now;
                spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
            }
            api.replace(LEASE, &params, &lease_of(shared, Some(resource_version), spec)).await
        }
    };
    match wrote {
        Ok(_) => election.took(sent),
        // Somebody was faster; the next look shows who.
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

fn lease_of(shared: &Shared, resource_version: Option<String>, spec: LeaseSpec) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(LEASE.into()),
            namespace: Some(shared.namespace.clone()),
            resource_version,
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(shared.name.clone()),
            lease_duration_seconds: Some(LASTS.as_secs() as i32),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..spec
        }),
    }
}

fn report(shared: &Shared, election: &Election, result: Result<(), String>) {
    let mut state = shared.state();
    let led = state.leads_until.is_some_and(|until| Instant::now() < until);
    state.leads_until = election.until();
    let leads = state.leads_until.is_some_and(|until| Instant::now() < until);
    if leads && !led {
        // What was told before us is told again: whoever led may have gone before telling.
        state.telling = Telling::default();
        tracing::info!("holds the Lease {}/{LEASE}: this replica writes", shared.namespace);
    } else if led && !leads {
        tracing::warn!("lost the Lease {}/{LEASE}: this replica stops writing", shared.namespace);
    }
    match result {
        Ok(()) => state.down = None,
        Err(error) => {
            if state.down.is_none() {
                tracing::warn!("the Lease {}/{LEASE} can't be looked at: {error}", shared.namespace);
                state.down = Some((Instant::now(), error));
            }
        }
    }
}

/// Gives the Lease back, so that a standby need not wait for its end.
pub(super) async fn give_back(shared: &Shared) {
    if shared.leads_until().is_none() {
        return;
    }
    shared.state().leads_until = None;
    let api: Api<Lease> = Api::namespaced(shared.client.clone(), &shared.namespace);
    let given = async {
        let Some(mut lease) = api.get_opt(LEASE).await? else { return Ok(()) };
        if let Some(spec) = lease.spec.as_mut().filter(|it| it.holder_identity.as_ref() == Some(&shared.name))
        {
            spec.holder_identity = Some(String::new());
            api.replace(LEASE, &PostParams::default(), &lease).await?;
        }
        Ok::<(), kube::Error>(())
    };
    if let Ok(Err(error)) = tokio::time::timeout(PERIOD, given).await {
        tracing::warn!("could not give the Lease back: {}", short(&error));
    }
}
