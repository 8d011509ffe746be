//! Management and protection, with the files that they name.

use std::path::PathBuf;

use super::Once;
use crate::Files;
use crate::model::{Management, ManagementTls, Protection, Role};
use crate::raw::{self, List, Opt};
use crate::report::{At, Report, quote};

/// A certificate chain or list of authorities; more is a mistake.
const PEM_SIZE_MAX: usize = 4 << 20;

/// Checks the section and, where files are read, that its files are there and are PEM.
pub(super) fn management(
    raw: &raw::Management,
    files: Option<&dyn Files>,
    report: &mut Report<'_>,
) -> Option<Management> {
    if let (Some(listen), false) = (&raw.listen, raw.tls_given) {
        report.problem(listen.at, "`listen` needs `tls`, as clients prove who they are by certificates; add `tls` or remove `listen`");
    }
    if let (Some(listen), Some(metrics)) = (&raw.listen, &raw.metrics)
        && listen.value == metrics.value
    {
        let first = report.location(listen.at);
        report.problem(
            metrics.at,
            format!("{} is taken by `listen` at {first}; choose another port", metrics.value),
        );
    }
    let tls = raw.tls.as_ref().and_then(|tls| {
        let mut check = |file: &Opt<PathBuf>| check_pem(file, files, report);
        let (certificate, key, client_ca) = (check(&tls.certificate), check(&tls.key), check(&tls.client_ca));
        Some(ManagementTls { certificate: certificate?, key: key?, client_ca: client_ca? })
    });
    let roles = roles(&raw.roles, report);
    if let Some(listen) = &raw.listen
        && raw.roles.complete
        && roles.is_empty()
    {
        report.warn(listen.at, "no client has a role, so none may do anything; list `roles`");
    }
    Some(Management {
        listen: raw.listen.map(|listen| listen.value),
        tls,
        roles,
        metrics: raw.metrics.map(|metrics| metrics.value),
    })
}

/// Adds what is in the section's files.
pub(super) fn protection(
    raw: &raw::ProtectionSection,
    files: Option<&dyn Files>,
    report: &mut Report<'_>,
) -> Protection {
    let cookie_secret = match (&raw.cookie_secret_file, files) {
        (Some(file), Some(files)) => cookie_secret(file, files, report),
        _ => None,
    };
    Protection { cookie_secret, ..raw.protection.clone() }
}

/// A secret of 128 bits, as 32 hexadecimal digits. What is in the file is never repeated.
fn cookie_secret(file: &At<PathBuf>, files: &dyn Files, report: &mut Report<'_>) -> Option<[u8; 16]> {
    let shown = quote(&file.value.display().to_string());
    let content = match files.read(&file.value) {
        Ok(content) => content,
        Err(error) => {
            report
                .problem(file.at, format!("the file {shown} cannot be read: {error}; name a readable file"));
            return None;
        }
    };
    let secret = hexadecimal(content.trim_ascii());
    if secret.is_none() {
        report.problem(
            file.at,
            format!("the file {shown} holds no secret; write 32 hexadecimal digits into it, as `openssl rand -hex 16` does"),
        );
    }
    secret
}

fn hexadecimal(digits: &[u8]) -> Option<[u8; 16]> {
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let digit = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    let bytes: Vec<u8> =
        pairs.iter().take(17).map_while(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    (pairs.len() == 16).then_some(())?;
    bytes.try_into().ok()
}

fn check_pem(file: &Opt<PathBuf>, files: Option<&dyn Files>, report: &mut Report<'_>) -> Option<PathBuf> {
    let At { value: path, at } = file.as_ref()?;
    let Some(files) = files else { return Some(path.clone()) };
    let shown = quote(&path.display().to_string());
    match files.read(path) {
        Err(error) => {
            report.problem(*at, format!("the file {shown} cannot be read: {error}; name a readable file"))
        }
        Ok(text) if text.len() > PEM_SIZE_MAX => {
            let len = text.len();
            report.problem(*at, format!("the file {shown} has {len} bytes; at most {PEM_SIZE_MAX} are read"));
        }
        Ok(text) if !text.windows(BEGIN.len()).any(|window| window == BEGIN) => {
            report.problem(*at, format!("the file {shown} is not PEM; it has no line `-----BEGIN …`"));
        }
        Ok(_) => {}
    }
    Some(path.clone())
}

/// What each part of a PEM file starts with (RFC 7468).
const BEGIN: &[u8] = b"-----BEGIN ";

fn roles(raw: &List<raw::Role>, report: &mut Report<'_>) -> Vec<Role> {
    let mut subjects = Once::new();
    let mut roles = Vec::new();
    for entry in &raw.items {
        let Some(subject) = &entry.subject else { continue };
        subjects.note(subject, report, |first| {
            format!("the subject {} has a role at {first} already; keep one", quote(&subject.value))
        });
        if let Some(role) = entry.role {
            roles.push(Role { subject: subject.value.clone(), role: role.value });
        }
    }
    roles
}
