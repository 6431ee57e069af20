//! `edgek token create|list|delete|rotate`: the tokens with which machines join.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Arg, ArgMatches, Command};
use edgek_base_config::Config;
use edgek_base_lifecycle::Scope;
use edgek_base_sys::files::write_atomic;
use edgek_client::{Delete, ListQuery};
use serde_json::Value;

use crate::admin::Admin;
use crate::exit::Failure;
use crate::sources;
use crate::token::{self, Token, Wanted};

/// How the Secrets of tokens are named, before their id.
const SECRET: &str = "bootstrap-token-";

pub(crate) fn command() -> Command {
    let kubeconfig = Arg::new("kubeconfig")
        .long("kubeconfig")
        .value_name("PATH")
        .global(true)
        .help("The administrator's kubeconfig [default: where the server writes it]");
    let ttl = Arg::new("ttl").long("ttl").value_name("TIME").default_value("24h").value_parser(duration);
    let description = Arg::new("description")
        .long("description")
        .value_name("TEXT")
        .default_value("")
        .help("What it is for");
    let id = Arg::new("id").value_name("TOKEN").required(true).num_args(1..);
    Command::new("token")
        .about("Manage the tokens with which machines join the cluster")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(kubeconfig)
        .subcommand(
            Command::new("create")
                .about("Make a token and print it")
                .arg(ttl.help("How long it is good: 30m, 24h, 7d; 0 for ever"))
                .arg(description),
        )
        .subcommand(Command::new("list").about("List the tokens, without their secrets"))
        .subcommand(
            Command::new("delete")
                .about("Delete tokens; nodes that have joined stay")
                .arg(id.help("A token, or its id")),
        )
        .subcommand(
            Command::new("rotate")
                .about("Replace the server's own token and print the new one; nodes that have joined stay"),
        )
}

pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let config = sources::ambient()?;
    let kubeconfig = matches.subcommand().and_then(|(_, of)| of.get_one::<String>("kubeconfig"));
    let kubeconfig = kubeconfig.map_or_else(|| config.write_kubeconfig.clone(), PathBuf::from);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let scope = Scope::root();
        let admin = Admin::connect(&kubeconfig, &scope).await?;
        match matches.subcommand() {
            Some(("create", of)) => create(&admin, of).await,
            Some(("list", _)) => list(&admin).await,
            Some(("delete", of)) => delete(&admin, of).await,
            Some(("rotate", _)) => rotate(&admin, &config).await,
            _ => unreachable!("clap requires a subcommand"),
        }
    })?;
    Ok(())
}

/// `30m`, `24h`, `7d`, seconds without a unit; 0 is `None`.
fn duration(text: &str) -> Result<Option<Duration>, String> {
    let wrong = || format!("{text:?} is not a time such as 30m, 24h or 7d");
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(wrong()),
    };
    let seconds: u64 = digits.parse().map_err(|_| wrong())?;
    // A thousand years, so that the end is a date.
    let seconds =
        seconds.checked_mul(factor).filter(|seconds| *seconds <= 31_536_000_000).ok_or_else(wrong)?;
    Ok((seconds > 0).then(|| Duration::from_secs(seconds)))
}

#[expect(clippy::print_stdout, reason = "the answer to whoever typed the command")]
async fn create(admin: &Admin, of: &ArgMatches) -> Result<()> {
    let ttl = of.get_one::<Option<Duration>>("ttl").copied().flatten();
    let description = of.get_one::<String>("description").map_or("", String::as_str);
    println!("{}", token::create(&admin.client, &admin.ca, &Wanted { description, ttl }).await?);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the answer to whoever typed the command")]
async fn list(admin: &Admin) -> Result<()> {
    let query = ListQuery { fields: "type=bootstrap.kubernetes.io/token".to_owned(), ..ListQuery::default() };
    let (tokens, _) = token::secrets(&admin.client).list(&query).await?;
    println!("{:<8} {:<22} DESCRIPTION", "TOKEN", "EXPIRES");
    for token in &tokens {
        let expires = match field(token, "expiration") {
            never if never.is_empty() => "never".to_owned(),
            time => time,
        };
        println!("{:<8} {expires:<22} {}", field(token, "token-id"), field(token, "description"));
    }
    Ok(())
}

fn field(secret: &Value, name: &str) -> String {
    let bytes = secret["data"][name].as_str().and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[expect(clippy::print_stdout, reason = "the answer to whoever typed the command")]
async fn delete(admin: &Admin, of: &ArgMatches) -> Result<()> {
    for given in of.get_many::<String>("id").into_iter().flatten() {
        let id = given.parse::<Token>().map_or_else(|_| given.clone(), |token| token.id().to_owned());
        remove(admin, &id).await.with_context(|| format!("token {id}"))?;
        println!("token {id} deleted");
    }
    Ok(())
}

async fn remove(admin: &Admin, id: &str) -> Result<()> {
    let name = format!("{SECRET}{id}");
    match token::secrets(&admin.client).delete(&name, &Delete::default()).await {
        Err(error) if error.is_not_found() => bail!("there is no such token; `edgek token list` shows them"),
        done => Ok(done?),
    }
}

#[expect(clippy::print_stdout, reason = "the answer to whoever typed the command")]
async fn rotate(admin: &Admin, config: &Config) -> Result<()> {
    let path = token::path(config);
    let old = std::fs::read_to_string(&path)
        .with_context(|| format!("reading {}; run this on the server", path.display()))?;
    let wanted = Wanted { description: "made by edgek token rotate", ttl: None };
    let new = token::create(&admin.client, &admin.ca, &wanted).await?;
    write_atomic(&path, format!("{new}\n").as_bytes(), 0o600)
        .with_context(|| format!("writing {}", path.display()))?;
    // It may have been deleted before.
    if let Ok(old) = old.parse::<Token>() {
        let _ = remove(admin, old.id()).await;
    }
    println!("{new}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_units() {
        let seconds = |text: &str| duration(text).map(|time| time.map_or(0, |time| time.as_secs()));
        assert_eq!(seconds("24h"), Ok(86_400));
        assert_eq!(seconds("30m"), Ok(1800));
        assert_eq!(seconds("7d"), Ok(604_800));
        assert_eq!(seconds("0"), Ok(0));
        for wrong in ["", "h", "-1h", "1w", "99999999999999999999h", "9999999999999h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
