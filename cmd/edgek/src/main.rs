//! The edgek binary: flags and files become a configuration, the configuration a running node.
//!
//! Exit codes are [`exit::Code`]; `edgek --help` lists the commands.

mod admin;
mod agent;
mod archives;
mod bootstrap;
mod bundle;
mod certificate;
mod check;
mod cli;
mod cluster;
mod control_plane;
mod dial;
mod exit;
mod foreground;
mod join;
mod kubelet_api;
mod kubernetes_service;
mod names;
mod node;
mod notify;
mod server;
mod servers;
mod service;
mod settings;
mod sources;
mod token;
mod tokens;
mod tools;
mod uninstall;

use std::process::ExitCode;

use clap::ArgMatches;
use exit::{Code, Failure};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    // A link called kubectl or ctr is that tool.
    if let Some(tool) = tools::from_program_name(&arguments) {
        return exit::report(tools::run(tool, &arguments[1..]));
    }
    // Before any thread starts: the holder of a pod's shared PID namespace does nothing else.
    if arguments.get(1).is_some_and(|command| command == "pause") {
        return exit::report(edgek_node_runtime::hold_pid_namespace().map_err(Failure::from));
    }
    match cli::command().try_get_matches_from(&arguments) {
        Ok(matches) => exit::report(dispatch(&matches)),
        Err(error) => {
            let code = if error.use_stderr() { Code::Usage } else { Code::Success };
            // Help for a closed pipe needs no second message.
            let _ = error.print();
            code.into()
        }
    }
}

fn dispatch(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("run", run)) => match run.subcommand() {
            Some(("server", flags)) => server::run(flags),
            Some(("agent", flags)) => agent::run(flags),
            _ => unreachable!("clap requires a subcommand"),
        },
        Some(("token", token)) => tokens::run(token),
        Some(("service", service)) => service::command(service),
        Some(("uninstall", flags)) => uninstall::run(flags),
        Some(("check", flags)) => check::run(flags),
        Some(("kubectl", arguments)) => tools::run(tools::Tool::Kubectl, &cli::rest(arguments)),
        Some(("ctr", arguments)) => tools::run(tools::Tool::Ctr, &cli::rest(arguments)),
        Some(("completion", arguments)) => {
            cli::completion(arguments);
            Ok(())
        }
        _ => unreachable!("clap requires a subcommand"),
    }
}
