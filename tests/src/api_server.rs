//! The wire of an API server that a test answers for, and a kubeconfig that leads there.

use std::future::Future;
use std::path::PathBuf;

use prescale_shell::http::{JSON, Request, Response, StatusCode, reply};
use prescale_shell::server;
use prescale_shell::signals::{Shutdown, Trigger};
use serde_json::{Value, json};

use crate::scratch::Scratch;

/// A server that runs as long as this lives.
#[derive(Debug)]
pub struct ApiServer {
    /// For KUBECONFIG.
    pub kubeconfig: PathBuf,
    _files: Scratch,
    _serving: Trigger,
}

impl ApiServer {
    /// Answers every request by `answer`.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start<F, R>(answer: F) -> Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: Future<Output = Response> + Send,
    {
        let listener = server::bind(([127, 0, 0, 1], 0).into()).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (serving, shutdown) = Shutdown::manual();
        tokio::spawn(server::serve(listener, answer, server::Limits::default(), shutdown));
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": format!("http://{address}")}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "users": [{"name": "it", "user": {}}],
        });
        let files = Scratch::new();
        let kubeconfig = files.file("kubeconfig", config.to_string()).into();
        Self { kubeconfig, _files: files, _serving: serving }
    }
}

/// An answer.
pub fn said(status: StatusCode, body: &Value) -> Response {
    reply(status, JSON, body.to_string())
}

/// A refusal as the API words it.
pub fn refused(status: StatusCode, reason: &str) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason,
        "reason": reason, "code": status.as_u16()});
    said(status, &body)
}

/// The body of a request.
///
/// # Panics
/// If it is no JSON.
pub fn body(request: &Request) -> Value {
    serde_json::from_slice(request.body()).expect("the API's clients write JSON")
}
