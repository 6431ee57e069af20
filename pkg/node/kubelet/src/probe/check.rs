//! One attempt of a probe, or one lifecycle hook.

use std::net::IpAddr;
use std::time::Duration;

use edgek_node_runtime::{ContainerId, ExecSpec, Output, Runtime};
use k8s_openapi::api::core::v1::{
    Container, ExecAction, GRPCAction, HTTPGetAction, LifecycleHandler, Probe, SleepAction, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{grpc, web};

/// As much of a command's output as messages carry.
const MAX_OUTPUT: usize = 10 << 10;

/// Hooks may take as long as they like; this bounds one that hangs.
pub const HOOK_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// What to do.
#[derive(Debug)]
pub enum Handler<'a> {
    /// Run a command in the container.
    Exec(&'a ExecAction),
    /// Ask over HTTP.
    Http(&'a HTTPGetAction),
    /// Connect.
    Tcp(&'a TCPSocketAction),
    /// Ask the gRPC health service.
    Grpc(&'a GRPCAction),
    /// Wait.
    Sleep(&'a SleepAction),
    /// Nothing is asked for.
    Nothing,
}

impl<'a> Handler<'a> {
    /// A probe's.
    pub fn of_probe(probe: &'a Probe) -> Self {
        match (&probe.exec, &probe.http_get, &probe.tcp_socket, &probe.grpc) {
            (Some(exec), ..) => Self::Exec(exec),
            (_, Some(http), ..) => Self::Http(http),
            (_, _, Some(tcp), _) => Self::Tcp(tcp),
            (.., Some(grpc)) => Self::Grpc(grpc),
            _ => Self::Nothing,
        }
    }

    /// A hook's. Hooks over plain TCP have never been supported.
    pub fn of_hook(hook: &'a LifecycleHandler) -> Self {
        match (&hook.exec, &hook.http_get, &hook.sleep) {
            (Some(exec), ..) => Self::Exec(exec),
            (_, Some(http), _) => Self::Http(http),
            (.., Some(sleep)) => Self::Sleep(sleep),
            _ => Self::Nothing,
        }
    }
}

/// What to do it to.
pub struct Target<'a> {
    /// Runs commands.
    pub runtime: &'a dyn Runtime,
    /// The run of the container.
    pub id: &'a ContainerId,
    /// The container.
    pub container: &'a Container,
    /// The pod's address.
    pub ip: IpAddr,
    /// How long it may take.
    pub timeout: Duration,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Success,
    /// Well, but in a way that its maker may not have meant.
    Warning(String),
    /// The container answered badly or not at all.
    Failure(String),
    /// It could not be tried.
    Unknown(String),
}

impl From<Result<(), String>> for Outcome {
    fn from(result: Result<(), String>) -> Self {
        result.map_or_else(Self::Failure, |()| Self::Success)
    }
}

/// Does it once.
pub async fn run(handler: &Handler<'_>, target: &Target<'_>) -> Outcome {
    let attempt = async {
        match handler {
            Handler::Exec(exec) => run_command(exec, target).await,
            Handler::Http(http) => web::get(http, target).await.unwrap_or_else(Outcome::Failure),
            Handler::Tcp(tcp) => connect(tcp, target).await,
            Handler::Grpc(grpc) => {
                let service = grpc.service.as_deref().unwrap_or_default();
                grpc::check(&address(&target.ip.to_string(), grpc.port), service).await.into()
            }
            Handler::Sleep(wait) => {
                let seconds = u64::try_from(wait.seconds).unwrap_or(0);
                edgek_base_lifecycle::sleep(Duration::from_secs(seconds)).await;
                Outcome::Success
            }
            Handler::Nothing => Outcome::Success,
        }
    };
    match tokio::time::timeout(target.timeout, attempt).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Failure(late(handler, target)),
    }
}

fn late(handler: &Handler<'_>, target: &Target<'_>) -> String {
    let timeout = crate::duration::go(target.timeout);
    match handler {
        Handler::Exec(exec) => {
            let command = exec.command.as_deref().unwrap_or_default().join(" ");
            format!("command timed out: {command:?} timed out after {timeout}")
        }
        Handler::Grpc(grpc) => {
            let address = address(&target.ip.to_string(), grpc.port);
            format!("timeout: failed to connect service {address:?} within {timeout}")
        }
        Handler::Tcp(_) => "i/o timeout".to_owned(),
        _ => format!("no answer within {timeout} (Client.Timeout exceeded while awaiting headers)"),
    }
}

async fn run_command(exec: &ExecAction, target: &Target<'_>) -> Outcome {
    let command = exec.command.clone().unwrap_or_default();
    let spec = ExecSpec { command, tty: false, stdin: false, timeout: Some(target.timeout) };
    let mut session = match target.runtime.exec(target.id, spec).await {
        Ok(session) => session,
        Err(error @ edgek_node_runtime::Error::Exec { .. }) => return Outcome::Failure(error.to_string()),
        Err(error) => return Outcome::Unknown(error.to_string()),
    };
    let mut text = Vec::new();
    while let Some(Output::Stdout(bytes) | Output::Stderr(bytes)) = session.output.recv().await {
        let room = MAX_OUTPUT.saturating_sub(text.len());
        text.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    match session.exit.await {
        Ok(Ok(0)) => Outcome::Success,
        Ok(Ok(_)) => Outcome::Failure(text),
        Ok(Err(error @ edgek_node_runtime::Error::ExecTimeout(_))) => {
            Outcome::Failure(format!("command timed out: {error}"))
        }
        Ok(Err(error)) => Outcome::Unknown(error.to_string()),
        Err(_) => Outcome::Unknown("the session ended without an exit code".to_owned()),
    }
}

async fn connect(tcp: &TCPSocketAction, target: &Target<'_>) -> Outcome {
    let Some(port) = port(&tcp.port, target.container) else {
        return Outcome::Unknown(format!("couldn't find port: {:?}", tcp.port));
    };
    let host = tcp.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| target.ip.to_string());
    match tokio::net::TcpStream::connect((host.trim_matches(['[', ']']), port)).await {
        Ok(_) => Outcome::Success,
        Err(error) => Outcome::Failure(dial_error(&address(&host, port.into()), &error)),
    }
}

/// `dial tcp 10.42.0.2:80: connect: connection refused`.
pub(super) fn dial_error(address: &str, error: &std::io::Error) -> String {
    let why = match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        _ => error.to_string(),
    };
    format!("dial tcp {address}: connect: {why}")
}

/// The number of a port that is given by number or by its name in the container.
pub(super) fn port(port: &IntOrString, container: &Container) -> Option<u16> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            let named = ports.find(|port| port.name.as_ref() == Some(name));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())?
        }
    };
    u16::try_from(number).ok()
}

/// `10.42.0.2:80`, `[fd00::2]:80`.
pub(super) fn address(host: &str, port: i32) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}
