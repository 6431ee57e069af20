//! Commands in running containers, and clients attached to a container's own streams.

use std::time::Duration;

use bytes::Bytes;
use containerd_client::services::v1::{
    CloseIoRequest, DeleteProcessRequest, ExecProcessRequest, KillRequest, ResizePtyRequest, StartRequest,
    WaitRequest,
};
use edgek_base_lifecycle::Scope;
use prost_types::Any;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot, watch};

use super::client::{Client, failed};
use super::pipes::{Kind, Outputs, PipePaths};
use crate::{ContainerId, Error, ExecSpec, Output, Result, Session, Signal, State, TerminalSize};

/// Pieces of output or input that wait for a slow end.
const QUEUE: usize = 16;

/// How long output may stay away after the command has ended before its pipes are closed: a child it left behind may
/// hold them open for ever.
const LINGER: Duration = Duration::from_millis(500);

const PROCESS_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";

/// One process of a container: its first one, or one started by exec.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) client: Client,
    pub(super) container: ContainerId,
    /// Empty for the container's first process.
    pub(super) exec_id: String,
}

/// Starts a command: `template` is the container's own process, which it copies but for the arguments.
pub(super) async fn start(
    scope: &Scope,
    process: Process,
    pipes: PipePaths,
    exec: ExecSpec,
    template: Value,
) -> Result<Session> {
    pipes.create()?;
    let opened = open(&process, &pipes, &exec, template).await;
    let outputs = match opened {
        Ok(outputs) => outputs,
        Err(error) => {
            pipes.remove();
            return Err(error);
        }
    };
    let (stdin_sender, stdin) = mpsc::channel(QUEUE);
    let (output, output_receiver) = mpsc::channel(QUEUE);
    let (resize_sender, resize) = mpsc::channel(1);
    let (exit, exit_receiver) = oneshot::channel();
    let session = Session {
        stdin: exec.stdin.then_some(stdin_sender),
        output: output_receiver,
        resize: resize_sender,
        exit: exit_receiver,
    };
    scope.spawn("exec", async move {
        let (ended, ended_receiver) = watch::channel(false);
        let mut reached = pipes.reach_stdin();
        let input = async {
            if let Some(reached) = &mut reached
                && let Some(pipe) = reached.pipe().await
            {
                feed(&process, stdin, pipe).await;
            }
        };
        let streams = async {
            tokio::join!(input, resize_to(&process, resize));
            std::future::pending::<()>().await;
        };
        let code = tokio::select! {
            (code, ()) = async { tokio::join!(finish(&process, exec.timeout, ended), forward(outputs, output, ended_receiver)) } => code,
            () = streams => Ok(0),
        };
        // Nobody may be waiting any more.
        let _ = exit.send(code);
        // The shim waits up to 10 s here for children that hold the command's output open.
        process.delete().await;
        if let Some(reached) = reached {
            reached.give_up().await;
        }
        pipes.remove();
    });
    Ok(session)
}

async fn open(process: &Process, pipes: &PipePaths, exec: &ExecSpec, mut template: Value) -> Result<Outputs> {
    let outputs = pipes.open_output()?;
    template["args"] = exec.command.clone().into();
    template["terminal"] = exec.tty.into();
    if exec.tty
        && let Some(env) = template["env"].as_array_mut()
        && !env.iter().any(|entry| entry.as_str().is_some_and(|entry| entry.starts_with("TERM=")))
    {
        env.push("TERM=xterm".into());
    }
    let problem = |status: containerd_client::tonic::Status| Error::Exec {
        id: process.container.clone(),
        problem: status.message().to_owned(),
    };
    let text = |path: Option<&std::path::PathBuf>| {
        path.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let request = ExecProcessRequest {
        container_id: process.container.to_string(),
        exec_id: process.exec_id.clone(),
        stdin: text(pipes.stdin.as_ref()),
        stdout: text(Some(&pipes.stdout)),
        stderr: text(pipes.stderr.as_ref()),
        terminal: exec.tty,
        spec: Some(Any { type_url: PROCESS_TYPE.to_owned(), value: template.to_string().into_bytes() }),
    };
    process.client.tasks().exec(request).await.map_err(problem)?;
    let request =
        StartRequest { container_id: process.container.to_string(), exec_id: process.exec_id.clone() };
    if let Err(status) = process.client.tasks().start(request).await {
        process.delete().await;
        return Err(problem(status));
    }
    Ok(outputs)
}

/// The pipes of a command.
pub(super) fn pipes(state_dir: &std::path::Path, exec_id: &str, exec: &ExecSpec) -> PipePaths {
    PipePaths::new(state_dir.join("io").join(exec_id), Kind { tty: exec.tty, stdin: exec.stdin })
}

/// A client of a container's own streams: `output` is its subscription, `stdin` the container's standard input.
/// Ends when `state` says that the container has, with its exit code.
pub(super) fn attach(
    scope: &Scope,
    process: Process,
    output: mpsc::Receiver<Output>,
    stdin: Option<(pipe::Sender, OnLeave)>,
    mut state: watch::Receiver<State>,
) -> Session {
    let (stdin_sender, stdin_receiver) = mpsc::channel(QUEUE);
    let (resize_sender, resize) = mpsc::channel(1);
    let (exit_sender, exit) = oneshot::channel();
    let session =
        Session { stdin: stdin.is_some().then_some(stdin_sender), output, resize: resize_sender, exit };
    scope.spawn("attach", async move {
        let input = async {
            match stdin {
                Some((pipe, OnLeave::Close)) => feed(&process, stdin_receiver, pipe).await,
                Some((mut pipe, OnLeave::KeepOpen)) => write_all(stdin_receiver, &mut pipe).await,
                None => {}
            }
        };
        let left = async { tokio::join!(input, resize_to(&process, resize)) };
        let ended = async {
            match state.wait_for(State::is_exited).await.as_deref() {
                Ok(State::Exited { code, .. }) => Ok(*code),
                _ => Err(Error::ContainerNotFound(process.container.clone())),
            }
        };
        tokio::select! {
            code = ended => {
                // Nobody may be waiting any more.
                let _ = exit_sender.send(code);
            }
            _ = left => {}
        }
    });
    session
}

/// What happens to a container's standard input when an attached client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnLeave {
    /// It is closed (`stdinOnce`).
    Close,
    /// It waits for the next client.
    KeepOpen,
}

impl Process {
    async fn wait(&self) -> Result<i32> {
        let request = WaitRequest { container_id: self.container.to_string(), exec_id: self.exec_id.clone() };
        let answer = self.client.tasks().wait(request).await.map_err(failed("wait for command"))?;
        Ok(answer.into_inner().exit_status as i32)
    }

    async fn kill(&self) {
        let request = KillRequest {
            container_id: self.container.to_string(),
            exec_id: self.exec_id.clone(),
            signal: Signal::KILL.0 as u32,
            all: false,
        };
        // It may have ended by itself.
        let _ = self.client.tasks().kill(request).await;
    }

    async fn delete(&self) {
        let request =
            DeleteProcessRequest { container_id: self.container.to_string(), exec_id: self.exec_id.clone() };
        // With the container gone, so is this.
        let _ = self.client.tasks().delete_process(request).await;
    }

    async fn close_stdin(&self) {
        let request = CloseIoRequest {
            container_id: self.container.to_string(),
            exec_id: self.exec_id.clone(),
            stdin: true,
        };
        // A process that has ended has nothing to close.
        let _ = self.client.tasks().close_io(request).await;
    }
}

/// Waits for the command; kills it when its time is up.
async fn finish(process: &Process, timeout: Option<Duration>, ended: watch::Sender<bool>) -> Result<i32> {
    let wait = process.wait();
    let code = match timeout {
        None => wait.await,
        Some(limit) => {
            tokio::pin!(wait);
            match tokio::time::timeout(limit, &mut wait).await {
                Ok(code) => code,
                Err(_) => {
                    process.kill().await;
                    wait.await.and(Err(Error::ExecTimeout(limit)))
                }
            }
        }
    };
    ended.send_replace(true);
    code
}

/// Hands output on; when nobody takes it, it is read and dropped so that the command can end.
async fn forward(mut outputs: Outputs, sender: mpsc::Sender<Output>, mut ended: watch::Receiver<bool>) {
    let mut taken = true;
    loop {
        let batch = if *ended.borrow() {
            tokio::time::timeout(LINGER, outputs.read()).await.ok().flatten()
        } else {
            tokio::select! {
                batch = outputs.read() => batch,
                _ = ended.changed() => continue,
            }
        };
        let Some(batch) = batch else { return };
        for output in batch {
            taken = taken && sender.send(output).await.is_ok();
        }
    }
}

/// Writes input until its sender is dropped, then closes the process's standard input.
async fn feed(process: &Process, input: mpsc::Receiver<Bytes>, mut pipe: pipe::Sender) {
    write_all(input, &mut pipe).await;
    drop(pipe);
    process.close_stdin().await;
}

async fn write_all(mut input: mpsc::Receiver<Bytes>, pipe: &mut pipe::Sender) {
    while let Some(bytes) = input.recv().await {
        if pipe.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn resize_to(process: &Process, mut sizes: mpsc::Receiver<TerminalSize>) {
    while let Some(size) = sizes.recv().await {
        let request = ResizePtyRequest {
            container_id: process.container.to_string(),
            exec_id: process.exec_id.clone(),
            width: size.width.into(),
            height: size.height.into(),
        };
        // Without a terminal there is nothing to resize.
        let _ = process.client.tasks().resize_pty(request).await;
    }
}
