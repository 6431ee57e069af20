//! The command line, made from the configuration's schema.

use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use edgek_base_config::{Role, SETTINGS, Setting, Shape};

use crate::tokens;

/// The version of edgek and of the Kubernetes it serves.
pub(crate) const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (Kubernetes v1.37.0)");

pub(crate) fn command() -> Command {
    Command::new("edgek")
        .version(VERSION)
        .about("Kubernetes for the edge")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("run")
                .about("Run a node in the foreground")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(supervised(with_settings(
                    Command::new("server").about("Run the control plane and a node"),
                    &[Role::Server],
                )))
                .subcommand(supervised(with_settings(
                    Command::new("agent").about("Run a node that joins the cluster of a server"),
                    &[Role::Agent],
                ))),
        )
        .subcommand(tokens::command())
        .subcommand(
            Command::new("service")
                .about("Run the server in the background, where systemd does not")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(Command::new("start").about("Start the server; does nothing when it runs"))
                .subcommand(Command::new("stop").about("Stop the server; pods go on running"))
                .subcommand(
                    Command::new("status").about("Tell whether the server runs (exit code 3 when not)"),
                )
                .subcommand(Command::new("supervise").hide(true)),
        )
        .subcommand(with_settings(
            Command::new("check").about("Check whether this machine can run edgek"),
            &[Role::Server, Role::Agent],
        ))
        .subcommand(with_settings(
            Command::new("uninstall").about("End all pods and take every trace of edgek off this machine"),
            &[Role::Server, Role::Agent],
        ))
        .subcommand(passthrough("kubectl", "Run the bundled kubectl against this cluster"))
        .subcommand(passthrough("ctr", "Run the bundled ctr against this node's containerd"))
        .subcommand(
            Command::new("completion")
                .about("Print the completions of a shell")
                .arg(Arg::new("shell").required(true).value_parser(value_parser!(clap_complete::Shell))),
        )
}

/// The flag by which `edgek service` asks to be followed into its end.
fn supervised(command: Command) -> Command {
    command.arg(Arg::new("supervised").long("supervised").action(ArgAction::SetTrue).hide(true))
}

/// The settings that all roles share and those of `roles`, as flags.
fn with_settings(command: Command, roles: &[Role]) -> Command {
    let config =
        Arg::new("config").long("config").short('c').value_name("PATH").help(
            "Configuration file; also PATH.d/*.yaml [default: /etc/edgek/config.yaml] [env: EDGEK_CONFIG]",
        );
    let settings =
        SETTINGS.iter().filter(|setting| setting.role == Role::Both || roles.contains(&setting.role));
    command.arg(config).args(settings.map(argument))
}

fn argument(setting: &'static Setting) -> Arg {
    let mut help = setting.help.to_owned();
    if !setting.default.is_empty() && setting.shape != Shape::Switch {
        help.push_str(&format!(" [default: {}]", setting.default));
    }
    help.push_str(&format!(" [env: {}]", setting.variable()));
    let arg = Arg::new(setting.name).long(setting.name).help(help);
    let arg = match setting.short {
        Some(short) => arg.short(short),
        None => arg,
    };
    match setting.shape {
        Shape::One => arg.value_name(setting.value).action(ArgAction::Set),
        Shape::Many => arg.value_name(setting.value).action(ArgAction::Append),
        Shape::Switch => arg.action(ArgAction::SetTrue),
    }
}

fn passthrough(name: &'static str, about: &'static str) -> Command {
    Command::new(name).about(about).disable_help_flag(true).arg(
        Arg::new("arguments")
            .num_args(0..)
            .allow_hyphen_values(true)
            .trailing_var_arg(true)
            .value_parser(value_parser!(OsString)),
    )
}

/// The arguments of a tool.
pub(crate) fn rest(matches: &ArgMatches) -> Vec<OsString> {
    matches.get_many::<OsString>("arguments").into_iter().flatten().cloned().collect()
}

pub(crate) fn completion(matches: &ArgMatches) {
    if let Some(shell) = matches.get_one::<clap_complete::Shell>("shell") {
        clap_complete::generate(*shell, &mut command(), "edgek", &mut std::io::stdout());
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_well_formed() {
        super::command().debug_assert();
    }
}
