//! `Uplink`: a worker's connection to its cluster, made again whenever it breaks, to whichever server answers.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use edgek_base_lifecycle::{Backoff, Scope};
use http::{Request, Response};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::connection::{Connection, Error};
use crate::inward::{self, Inward};
use crate::{Body, BoxError, BoxedIo};

/// How long a request waits for a connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection that lasted as long was a good one: the next attempt is not delayed.
const LASTING: Duration = Duration::from_secs(10);

/// What an uplink needs.
pub struct Settings {
    /// The servers, `host:port`, the preferred one first.
    pub servers: watch::Receiver<Vec<String>>,
    /// How servers are recognised, and who we are; a change moves to a new connection.
    pub tls: watch::Receiver<Arc<rustls::ClientConfig>>,
    /// What the server reaches here.
    pub inward: Arc<dyn Inward>,
}

/// Sends requests to the cluster, as a tower service. Clones share the connection.
#[derive(Clone)]
pub struct Uplink {
    current: watch::Receiver<Option<Connection>>,
}

impl Uplink {
    /// Keeps a connection until the scope ends.
    pub fn start(settings: Settings, scope: &Scope) -> Self {
        let (sender, current) = watch::channel(None);
        let keeper = Keeper { settings, current: sender, last: String::new(), scope: scope.clone() };
        scope.spawn("uplink", keeper.run());
        Self { current }
    }
}

impl tower::Service<Request<Body>> for Uplink {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut current = self.current.clone();
        Box::pin(async move {
            let connected = tokio::time::timeout(PATIENCE, current.wait_for(Option::is_some)).await;
            let connection = connected.map_err(|_| "no server of the cluster answers")??.clone();
            connection.ok_or("no server of the cluster answers")?.send(request).await
        })
    }
}

struct Keeper {
    settings: Settings,
    current: watch::Sender<Option<Connection>>,
    /// The server that answered last.
    last: String,
    scope: Scope,
}

impl Keeper {
    async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
        let mut told = false;
        loop {
            match self.connect().await {
                Ok((connection, tunnel)) => {
                    info!(server = connection.server(), "connected");
                    told = false;
                    let since = Instant::now();
                    self.keep(connection, tunnel).await;
                    if since.elapsed() >= LASTING {
                        backoff.reset();
                    }
                }
                Err(error) => {
                    if !told {
                        warn!(%error, "not connected; it is tried again until a server answers");
                    }
                    told = true;
                }
            }
            backoff.wait().await;
        }
    }

    /// Connects to the server that answered last, or else to the first that answers, and opens the way back.
    async fn connect(&mut self) -> Result<(Connection, BoxedIo), Error> {
        let mut servers = self.settings.servers.borrow_and_update().clone();
        servers.sort_by_key(|server| *server != self.last);
        let tls = self.settings.tls.borrow_and_update().clone();
        let none = io::Error::new(io::ErrorKind::NotFound, "no server is known");
        let mut last = Error::Connect { server: "cluster".to_owned(), source: none };
        for server in &servers {
            match self.connect_to(server, tls.clone()).await {
                Ok(connected) => {
                    self.last.clone_from(server);
                    return Ok(connected);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect_to(
        &self,
        server: &str,
        tls: Arc<rustls::ClientConfig>,
    ) -> Result<(Connection, BoxedIo), Error> {
        let mut connection = Connection::open(server, tls, &self.scope).await?;
        let tunnel = connection.open_tunnel().await?;
        Ok((connection, tunnel))
    }

    /// Lets requests pass until the connection ends or another is to be made. What runs on it then goes on.
    async fn keep(&mut self, mut connection: Connection, tunnel: BoxedIo) {
        self.current.send_replace(Some(connection.clone()));
        let (inward, scope) = (self.settings.inward.clone(), self.scope.clone());
        let tunnel = self.scope.spawn("tunnel", async move { inward::serve(tunnel, inward, &scope).await });
        tokio::select! {
            () = connection.ended() => {}
            _ = tunnel.join() => {}
            Ok(()) = self.settings.tls.changed() => return info!("connecting again with the new certificate"),
        }
        warn!(server = connection.server(), "connection lost");
        self.current.send_replace(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls;
    use async_trait::async_trait;
    use tokio::net::TcpListener;

    /// A machine on which nothing is open.
    struct Closed;

    #[async_trait]
    impl Inward for Closed {
        async fn open(&self, _: &str) -> io::Result<BoxedIo> {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }

    /// Begins to connect to these servers.
    fn start(servers: &[String], scope: &Scope) {
        let (_, servers) = watch::channel(servers.to_vec());
        let (_, tls) = watch::channel(Arc::new(tls::believing().unwrap()));
        Uplink::start(Settings { servers, tls, inward: Arc::new(Closed) }, scope);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_up_is_asked_ever_less_often() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scope = Scope::root();
        start(&[server.local_addr().unwrap().to_string()], &scope);
        let mut asked = 0;
        let ten_minutes = Instant::now() + Duration::from_secs(600);
        while let Ok(accepted) = tokio::time::timeout_at(ten_minutes, server.accept()).await {
            drop(accepted.unwrap());
            asked += 1;
        }
        assert!((15..40).contains(&asked), "{asked} times");
    }

    #[tokio::test]
    async fn the_next_server_is_asked_when_one_does_not_answer() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scope = Scope::root();
        start(&[gone.to_string(), server.local_addr().unwrap().to_string()], &scope);
        tokio::time::timeout(Duration::from_secs(10), server.accept()).await.expect("nobody asks").unwrap();
    }
}
