//! `Client`: the connection to containerd. Every call of this crate goes through it.

use std::path::{Path, PathBuf};

use containerd_client::services::v1 as services;
use containerd_client::tonic::codegen::InterceptedService;
use containerd_client::tonic::metadata::MetadataValue;
use containerd_client::tonic::service::Interceptor;
use containerd_client::tonic::transport::{Channel, Endpoint};
use containerd_client::tonic::{Code, Request, Status};
use hyper_util::rt::TokioIo;
use prost::Message;
use prost_types::Any;
use tokio::net::UnixStream;

use crate::Error;

/// The namespace that holds edgek's images and containers: the one Kubernetes tools look in.
pub(super) const NAMESPACE: &str = "k8s.io";

/// A list of all containers with their specifications is large.
const MAX_MESSAGE: usize = 64 << 20;

/// Names the namespace in every request.
#[derive(Debug, Clone)]
pub(super) struct Namespaced;

impl Interceptor for Namespaced {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("containerd-namespace", MetadataValue::from_static(NAMESPACE));
        Ok(request)
    }
}

type Transport = InterceptedService<Channel, Namespaced>;

/// A connection that is made with the first call and again after containerd was restarted.
#[derive(Debug, Clone)]
pub(super) struct Client {
    channel: Channel,
}

/// Gives each service of containerd as a method.
macro_rules! service {
    ($name:ident, $client:ty) => {
        pub(super) fn $name(&self) -> $client {
            <$client>::new(InterceptedService::new(self.channel.clone(), Namespaced))
                .max_decoding_message_size(MAX_MESSAGE)
        }
    };
}

impl Client {
    /// A client of the containerd behind this socket.
    pub(super) fn new(socket: &Path) -> Self {
        let socket: PathBuf = socket.to_owned();
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        Self { channel: Endpoint::from_static("http://containerd").connect_with_connector_lazy(connector) }
    }

    service!(containers, services::containers_client::ContainersClient<Transport>);
    service!(content, services::content_client::ContentClient<Transport>);
    service!(events, services::events_client::EventsClient<Transport>);
    service!(images, services::images_client::ImagesClient<Transport>);
    service!(namespaces, services::namespaces_client::NamespacesClient<Transport>);
    service!(snapshots, services::snapshots::snapshots_client::SnapshotsClient<Transport>);
    service!(streaming, services::streaming_client::StreamingClient<Transport>);
    service!(tasks, services::tasks_client::TasksClient<Transport>);
    service!(transfer, services::transfer_client::TransferClient<Transport>);
    service!(version, services::version_client::VersionClient<Transport>);
}

/// A protobuf message the way containerd registers it: the type's name without a host.
pub(super) fn any<M: Message + prost::Name>(message: &M) -> Any {
    Any { type_url: M::full_name(), value: message.encode_to_vec() }
}

/// Turns a failed call into an error; for those whose answers have no better meaning.
pub(super) fn failed(call: &'static str) -> impl Fn(Status) -> Error {
    move |status| match status.code() {
        Code::Unavailable => Error::Unavailable(status.message().to_owned()),
        _ => Error::Call { call, problem: status.message().to_owned() },
    }
}

/// Whether what was asked for does not exist.
pub(super) fn is_missing(status: &Status) -> bool {
    status.code() == Code::NotFound
}

/// Takes "it does not exist" for an answer.
pub(super) fn found<T>(
    call: &'static str,
    answer: Result<containerd_client::tonic::Response<T>, Status>,
) -> Result<Option<T>, Error> {
    match answer {
        Ok(response) => Ok(Some(response.into_inner())),
        Err(status) if is_missing(&status) => Ok(None),
        Err(status) => Err(failed(call)(status)),
    }
}
