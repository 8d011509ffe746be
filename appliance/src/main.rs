//! `nva`: a userspace poll-mode network virtual appliance. This file only reads the command line and hands over; what a command
//! does is in the module of its name.
#![forbid(unsafe_code)]

mod check;
mod cli;
mod demo;
mod explain;
mod files;
mod import;
mod output;
mod ports;
mod replay;
mod run;
mod show;
mod unbuilt;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match &cli::Cli::parse().command {
        cli::Command::Run(args) => run::run(args),
        cli::Command::Check(args) => check::check(args),
        cli::Command::Explain(args) => explain::explain(args),
        cli::Command::Replay(args) => replay::replay(args),
        cli::Command::Diff(args) => replay::diff(args),
        cli::Command::Import(command) => import::import(command),
        cli::Command::Demo(args) => demo::demo(args),
        cli::Command::Show(args) => show::show(args),
        cli::Command::Top(args) => show::top(args),
        cli::Command::Ports(command) => ports::ports(command),
        cli::Command::DemoPeer(peer) => demo::peer(peer),
    }
}
