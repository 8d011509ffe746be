//! `nva explain`.

use crate::Folder;

const PACKET: &str = "--proto udp --from 198.51.100.7:4000 --to";

#[test]
fn the_deciding_rule_is_named() {
    let folder = Folder::new("explain");
    let line = format!("explain --config nva.yaml --port outside {PACKET} 192.0.2.10:53");
    let json = folder.nva(&format!("{line} --json")).json();
    assert_eq!(json["verdict"], "allow", "{json}");
    assert_eq!(json["rule"], "web-nsg/allow-web", "{json}");
    assert_eq!(json["backend"], "web-1", "{json}");
    let steps = json["steps"].as_array().map_or(&[][..], Vec::as_slice);
    assert!(steps.iter().all(|step| step["stage"].is_string() && step["detail"].is_string()), "{json}");
    let group = steps.iter().find(|step| step["stage"] == "subnet_group" && step["group"] == "web-nsg");
    let group = group.unwrap_or_else(|| panic!("no step of the group: {json}"));
    assert_eq!(
        (&group["rule"], &group["priority"], &group["access"]),
        (&"allow-web".into(), &100.into(), &"allow".into())
    );
    let text = folder.nva(&line);
    text.succeeds();
    assert!(text.out().starts_with("allow") && text.out().contains("web-nsg/allow-web"), "{}", text.out());
}

#[test]
fn a_denied_packet_is_exit_code_0_too() {
    let folder = Folder::new("explain-deny");
    let ran = folder.nva(&format!("explain --config nva.yaml --port outside {PACKET} 10.0.0.4:54 --json"));
    ran.succeeds();
    assert_eq!(
        (&ran.json()["verdict"], &ran.json()["rule"]),
        (&"deny".into(), &"web-nsg/DenyAllInBound".into())
    );
}

#[test]
fn questions_that_make_no_sense_are_bad_usage() {
    let folder = Folder::new("explain-usage");
    let ask = |rest: &str| folder.nva(&format!("explain --config nva.yaml {rest}"));
    ask(&format!("--port nowhere {PACKET} 10.0.0.4:53")).fails(2, "`outside`, `inside`");
    ask(&format!("--port outside {PACKET} 10.0.0.4")).fails(2, "10.0.0.4:PORT");
    ask(&format!("--port outside {PACKET} [fd00::4]:53")).fails(2, "one family");
    ask("--port outside --proto sctp --from 1.2.3.4 --to 10.0.0.4").fails(2, "tcp, udp, icmp");
}
