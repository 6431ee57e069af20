//! The streams containerd's transfer service needs beside its call: answers to login requests, and the bytes of an
//! archive. Called by `images`.

use std::path::Path;
use std::sync::Arc;

use containerd_client::services::v1::StreamInit;
use containerd_client::tonic::Streaming;
use containerd_client::types::transfer::{AuthRequest, AuthResponse, AuthType, Data, WindowUpdate};
use edgek_base_lifecycle::{Scope, Task};
use prost::Message as _;
use prost_types::Any;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tracing::debug;

use super::Registries;
use super::client::{Client, any, failed};
use crate::{Credentials, Error, Reference, Result};

/// Sent at once; containerd asks for twice this much.
const CHUNK: usize = 32 * 1024;

/// A stream that ends when this is dropped.
pub(super) struct Stream {
    /// The name containerd knows it by.
    pub(super) id: String,
    task: Task,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Who may log in where during one pull.
pub(super) struct Logins {
    registry: String,
    own: Option<Credentials>,
    registries: Arc<Registries>,
}

impl Logins {
    /// `own` are the pull's credentials: for hosts of the reference's own registry, never for a mirror.
    pub(super) fn new(reference: &Reference, own: Option<Credentials>, registries: Arc<Registries>) -> Self {
        Self { registry: reference.registry().to_owned(), own, registries }
    }

    fn answer(&self, host: &str) -> AuthResponse {
        let own = self.own.clone().filter(|_| is_host_of(host, &self.registry));
        let name = if is_host_of(host, "docker.io") { "docker.io" } else { host };
        let configured = || self.registries.credentials(host).or_else(|| self.registries.credentials(name));
        own.or_else(configured).map(login).unwrap_or_default()
    }
}

/// Opens a stream on which containerd asks how to log in to a registry's hosts.
pub(super) async fn answer_logins(scope: &Scope, client: &Client, logins: Logins) -> Result<Stream> {
    let id = format!("login-{}", uuid::Uuid::new_v4());
    let (sender, mut receiver) = open(client, &id).await?;
    let task = scope.spawn("registry login", async move {
        while let Ok(Some(message)) = receiver.message().await {
            let Ok(request) = AuthRequest::decode(message.value.as_slice()) else { break };
            if sender.send(any(&logins.answer(&request.host))).await.is_err() {
                break;
            }
        }
    });
    Ok(Stream { id, task })
}

/// Opens a stream on which containerd reads a file.
pub(super) async fn send_file(scope: &Scope, client: &Client, path: &Path) -> Result<Stream> {
    let mut file = File::open(path).await.map_err(|source| Error::io("open", path, source))?;
    let id = format!("import-{}", uuid::Uuid::new_v4());
    let (sender, mut receiver) = open(client, &id).await?;
    let task = scope.spawn("image import", async move {
        let mut window = 0_usize;
        let mut buffer = vec![0; CHUNK];
        loop {
            while window == 0 {
                match receiver.message().await {
                    Ok(Some(message)) => window += window_update(&message),
                    _ => return,
                }
            }
            let wanted = window.min(CHUNK);
            match file.read(&mut buffer[..wanted]).await {
                Ok(0) => break,
                Ok(length) => {
                    window -= length;
                    if sender.send(any(&Data { data: buffer[..length].to_vec() })).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    // containerd finds the archive cut short and says so.
                    debug!(%error, "cannot read the archive");
                    break;
                }
            }
        }
        // Ending our half ends the archive; dropping the other half now would take back what is on its way.
        drop(sender);
        while let Ok(Some(_)) = receiver.message().await {}
    });
    Ok(Stream { id, task })
}

/// Opens a named stream; containerd answers with an empty message once it knows the name.
async fn open(client: &Client, id: &str) -> Result<(mpsc::Sender<Any>, Streaming<Any>)> {
    let failed = failed("open stream");
    let (sender, outgoing) = mpsc::channel(2);
    sender.try_send(any(&StreamInit { id: id.to_owned() })).expect("the new queue has room");
    let response = client.streaming().stream(ReceiverStream::new(outgoing)).await.map_err(&failed)?;
    let mut incoming = response.into_inner();
    incoming.message().await.map_err(&failed)?;
    Ok((sender, incoming))
}

fn window_update(message: &Any) -> usize {
    WindowUpdate::decode(message.value.as_slice()).map_or(0, |update| update.update.max(0) as usize)
}

/// The default registry answers under other names than the one in references.
fn is_host_of(host: &str, registry: &str) -> bool {
    host == registry || (registry == "docker.io" && host.ends_with(".docker.io"))
}

fn login(credentials: Credentials) -> AuthResponse {
    let (kind, username, secret) = match credentials {
        Credentials::Basic { username, password } => (AuthType::Credentials, username, password),
        Credentials::Identity(token) => (AuthType::Refresh, String::new(), token),
        Credentials::Bearer(token) => (AuthType::Header, String::new(), format!("Bearer {token}")),
    };
    AuthResponse { auth_type: kind.into(), username, secret, ..AuthResponse::default() }
}
