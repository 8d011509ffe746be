//! Management and records.

use std::path::PathBuf;
use std::time::Duration;

use super::words;

/// `management`.
#[derive(Clone, Debug)]
pub struct Management {
    /// `listen`.
    pub listen: Option<std::net::SocketAddr>,
    /// `tls`.
    pub tls: Option<ManagementTls>,
    /// `roles`.
    pub roles: Vec<Role>,
    /// `metrics.listen`.
    pub metrics: Option<std::net::SocketAddr>,
}

/// `management.tls`; paths are relative to the configuration file and resolved here.
#[derive(Clone, Debug)]
pub struct ManagementTls {
    /// `certificate`.
    pub certificate: PathBuf,
    /// `key`.
    pub key: PathBuf,
    /// `client_ca`.
    pub client_ca: PathBuf,
}

/// One of `management.roles`.
#[derive(Clone, Debug)]
pub struct Role {
    /// `subject`: a client certificate's subject common name.
    pub subject: String,
    /// `role`.
    pub role: RoleKind,
}

/// `management.roles[].role`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleKind {
    /// `operator`.
    Operator,
    /// `reader`.
    Reader,
}

/// `logs`.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    /// `flow`.
    pub flow: Option<FlowLog>,
    /// `audit.path`, resolved like that of the flow log.
    pub audit: Option<PathBuf>,
}

/// `logs.flow`.
#[derive(Clone, Debug)]
pub struct FlowLog {
    /// `path`, relative to the configuration file and resolved here.
    pub path: PathBuf,
    /// `interval`. Default 60 s.
    pub interval: Duration,
    /// `format`: `vnet_flow_log`.
    pub format: FlowLogFormat,
}

/// `logs.flow.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowLogFormat {
    /// `vnet_flow_log`: virtual-network flow log version 4.
    VnetFlowLog,
}

words!(RoleKind { Operator = "operator", Reader = "reader" });
words!(FlowLogFormat { VnetFlowLog = "vnet_flow_log" });
