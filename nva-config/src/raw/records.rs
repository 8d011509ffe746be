//! `management` and `logs` as written.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::fields::{Fields, List, Opt, fields};
use super::scalar::{duration, socket, text, word};
use crate::model::{FlowLog, FlowLogFormat, Logs, RoleKind};
use crate::report::{At, Report};
use crate::tree::Node;

/// `management`.
pub(crate) struct Management {
    pub(crate) listen: Opt<SocketAddr>,
    pub(crate) tls: Option<Tls>,
    /// `tls` was written, be it good or bad.
    pub(crate) tls_given: bool,
    pub(crate) roles: List<Role>,
    pub(crate) metrics: Opt<SocketAddr>,
}

/// `management.tls`, its paths resolved.
pub(crate) struct Tls {
    pub(crate) certificate: Opt<PathBuf>,
    pub(crate) key: Opt<PathBuf>,
    pub(crate) client_ca: Opt<PathBuf>,
}

/// One of `management.roles`.
pub(crate) struct Role {
    pub(crate) subject: Opt<String>,
    pub(crate) role: Opt<RoleKind>,
}

/// A path, from the folder of the file that it is written in.
fn path(fields: &mut Fields<'_>, key: &'static str, report: &mut Report<'_>) -> Opt<PathBuf> {
    let At { value, at } = fields.required(key, report, text)?;
    Some(At { value: report.resolve(at, &value), at })
}

pub(super) fn management(fields: &mut Fields<'_>, report: &mut Report<'_>) -> Management {
    Management {
        tls_given: fields.is_meant("tls"),
        listen: fields.optional("listen", report, socket),
        tls: fields.section("tls", report, |fields, report| Tls {
            certificate: path(fields, "certificate", report),
            key: path(fields, "key", report),
            client_ca: path(fields, "client_ca", report),
        }),
        roles: fields.list("roles", report, role),
        metrics: fields
            .section("metrics", report, |fields, report| fields.required("listen", report, socket))
            .flatten(),
    }
}

fn role(node: &Node, report: &mut Report<'_>) -> Option<Role> {
    let mut fields = fields(node, report)?;
    let role = Role {
        subject: fields.required("subject", report, text),
        role: fields.required("role", report, word),
    };
    fields.finish(report);
    Some(role)
}

pub(super) fn logs(fields: &mut Fields<'_>, report: &mut Report<'_>) -> Logs {
    Logs {
        flow: fields.section("flow", report, flow).flatten(),
        audit: fields
            .section("audit", report, |fields, report| path(fields, "path", report))
            .flatten()
            .map(|path| path.value),
    }
}

fn flow(fields: &mut Fields<'_>, report: &mut Report<'_>) -> Option<FlowLog> {
    let interval = Duration::from_secs(1)..=Duration::from_secs(3600);
    let path = path(fields, "path", report);
    let interval = fields.or("interval", Duration::from_secs(60), report, duration(interval));
    let format = fields.or("format", FlowLogFormat::VnetFlowLog, report, word);
    Some(FlowLog { path: path?.value, interval: interval?.value, format: format?.value })
}
