//! `nva show` and `nva top`: what a running appliance is doing.

mod client;
mod tables;
mod top;

pub(crate) use client::Client;
pub(crate) use top::top;

use crate::cli::{ShowArgs, Shown};
use crate::output::{Failure, Style, conclude, print, print_json};
use crate::run::protocol::{Backends, Protection, Request, Rules, Stats};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::process::ExitCode;

/// Runs the command.
pub(crate) fn show(args: &ShowArgs) -> ExitCode {
    conclude(try_show(args))
}

fn try_show(args: &ShowArgs) -> Result<(), Failure> {
    let mut client = Client::find(&args.instance)?;
    match args.what {
        Shown::Stats => present(&mut client, args, &Request::Stats {}, tables::stats),
        Shown::Rules => present(&mut client, args, &Request::Rules {}, |report: &Rules, style| {
            tables::rules(&report.rules, style)
        }),
        Shown::Backends => present(&mut client, args, &Request::Backends {}, |report: &Backends, style| {
            tables::backends(&report.backends, style)
        }),
        Shown::Protection => {
            present(&mut client, args, &Request::Protection {}, |report: &Protection, style| {
                tables::protection(report, style)
            })
        }
        Shown::Flows => {
            let request = Request::Flows { limit: args.limit, address: args.address };
            present(&mut client, args, &request, tables::flows)
        }
    }
}

fn present<T: Serialize + DeserializeOwned>(
    client: &mut Client,
    args: &ShowArgs,
    request: &Request,
    table: impl Fn(&T, Style) -> String,
) -> Result<(), Failure> {
    let report: T = client.ask(request)?;
    if args.json { print_json(&report) } else { print(&table(&report, Style::stdout())) }
}

/// Asks for what `nva show stats` shows.
pub(crate) fn stats(client: &mut Client) -> Result<Stats, Failure> {
    client.ask(&Request::Stats {})
}
