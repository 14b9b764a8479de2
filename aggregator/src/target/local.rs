//! The target of one machine: a supervisor that runs workers as replicas and speaks JSON over HTTP.

use std::time::Duration;

use prescale_core::plan::Decision;
use prescale_core::view::Refusal;
use prescale_core::world::WorkloadState;
use prescale_shell::client::{Client, Limits};
use prescale_shell::http::{JSON, Method, StatusCode, percent_encode};
use serde::{Deserialize, Serialize};

use super::TargetError;

/// The supervisor answers a long poll after 25 s at the latest; a third more for the way.
const LONG_POLL: Duration = Duration::from_secs(33);
/// A supervisor's workers fit on one machine: 4 MiB are some ten thousand pods.
const REPLY_BYTES: usize = 4 * 1024 * 1024;

/// What exists, as of one revision.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct World {
    /// Changes whenever anything of it does.
    pub revision: u64,
    /// The workloads that opted in.
    pub workloads: Vec<WorkloadState>,
    /// What stands refused, of these workloads and of others; a supervisor refuses nothing.
    #[serde(skip)]
    pub refusals: Vec<Refusal>,
}

/// The supervisor's client.
#[derive(Debug)]
pub struct Local {
    client: Client,
}

#[derive(Serialize)]
struct Scale {
    replicas: u32,
    resource_version: u64,
}

#[derive(Deserialize)]
struct Scaled {
    resource_version: u64,
}

impl Local {
    pub(super) fn new(address: &str) -> anyhow::Result<Self> {
        Ok(Self { client: Client::new(address, Limits { reply_bytes: REPLY_BYTES, ..Limits::default() })? })
    }

    pub(super) async fn world(&self, after: Option<u64>) -> Result<World, TargetError> {
        let reply = match after {
            Some(revision) => {
                self.client.get_within(&format!("/v1/workloads?revision={revision}"), LONG_POLL).await?
            }
            None => self.client.get("/v1/workloads").await?,
        };
        match reply.status() {
            StatusCode::OK => parse(reply.body()),
            status => Err(TargetError::Refused { status: status.as_u16() }),
        }
    }

    pub(super) async fn scale(&self, decision: &Decision) -> Result<u64, TargetError> {
        let Decision { workload: id, replicas, resource_version, .. } = decision;
        let path =
            format!("/v1/workloads/{}/{}/scale", percent_encode(&id.namespace), percent_encode(&id.name));
        let body = serde_json::to_vec(&Scale { replicas: *replicas, resource_version: *resource_version })
            .expect("two numbers can always be written as JSON");
        let reply = self.client.send(Method::PUT, &path, JSON, body).await?;
        match reply.status() {
            StatusCode::OK => Ok(parse::<Scaled>(reply.body())?.resource_version),
            StatusCode::CONFLICT => Err(TargetError::Conflict),
            StatusCode::NOT_FOUND => Err(TargetError::Gone),
            status => Err(TargetError::Refused { status: status.as_u16() }),
        }
    }
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, TargetError> {
    serde_json::from_slice(body).map_err(|error| TargetError::Nonsense(error.to_string()))
}
