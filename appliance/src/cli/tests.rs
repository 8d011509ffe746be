//! The command line read, and what it refuses.

use super::values::*;
use super::*;
use clap::CommandFactory;
use clap::error::ErrorKind;
use nva_dataplane::addr::Mac;

fn parse(line: &str) -> Result<Command, ErrorKind> {
    Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command).map_err(|error| error.kind())
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_teaches_by_example() {
    fn visit(command: &clap::Command) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        if !command.has_subcommands() {
            assert!(help.contains("Examples:\n"), "{} has no examples", command.get_name());
        }
        // Longer lines are broken again where help is wrapped.
        assert!(help.lines().all(|line| line.chars().count() <= 96), "{} has long lines", command.get_name());
        command.get_subcommands().filter(|sub| sub.get_name() != "help").for_each(visit);
    }
    visit(&Cli::command());
}

#[test]
fn replay_takes_what_the_contract_says() {
    let line = "nva replay --config a --config b --in u=x.pcap --in t=y=z.pcap --out d --verdicts v \
                --seed 000102030405060708090A0b0c0d0e0f --down w1 --down w2 --linger 500ms --mac u=02:00:00:00:00:09";
    let Ok(Command::Replay(args)) = parse(line) else { panic!("refused") };
    assert_eq!(args.config.files, [PathBuf::from("a"), PathBuf::from("b")]);
    let args = args.captures;
    assert_eq!(args.inputs[1], PortCapture { port: "t".into(), path: "y=z.pcap".into() });
    assert_eq!(args.seed, Some(Seed(std::array::from_fn(|i| u8::try_from(i).unwrap_or(0)))));
    assert_eq!(args.down, ["w1", "w2"]);
    assert_eq!(args.linger, Duration::from_millis(500));
    assert_eq!(args.mac, [PortMac { port: "u".into(), mac: Mac([2, 0, 0, 0, 0, 9]) }]);
}

#[test]
fn what_is_missing_or_misspelt_is_bad_usage() {
    for (line, kind) in [
        ("nva check", ErrorKind::MissingRequiredArgument),
        ("nva replay --config a --out d", ErrorKind::MissingRequiredArgument),
        ("nva replay --config a --in u=x", ErrorKind::MissingRequiredArgument),
        ("nva replay --config a --in x --out d", ErrorKind::ValueValidation),
        ("nva replay --config a --in =x --out d", ErrorKind::ValueValidation),
        ("nva replay --config a --in u=x --out d --seed 00", ErrorKind::ValueValidation),
        ("nva explain --config a", ErrorKind::MissingRequiredArgument),
        ("nva explain --config a --port p --from 10.0.0.1 --to 10.0.0.2", ErrorKind::MissingRequiredArgument),
        ("nva explain --config a --effective 10.0.0.1 --port p", ErrorKind::ArgumentConflict),
        ("nva explain --config a --effective web", ErrorKind::ValueValidation),
        ("nva diff --config a --in u=x", ErrorKind::MissingRequiredArgument),
        ("nva diff --new a --in u=x", ErrorKind::MissingRequiredArgument),
        ("nva diff --config a --new b", ErrorKind::MissingRequiredArgument),
        ("nva import azure", ErrorKind::MissingRequiredArgument),
        ("nva import", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
        ("nva show nothing", ErrorKind::InvalidValue),
        ("nva ports release", ErrorKind::MissingRequiredArgument),
    ] {
        assert_eq!(parse(line).err(), Some(kind), "{line}");
    }
}

#[test]
fn endpoints_come_with_and_without_a_port_in_both_families() {
    for (text, address, port) in [
        ("192.0.2.1:80", "192.0.2.1", Some(80)),
        ("192.0.2.1", "192.0.2.1", None),
        ("[2001:db8::1]:443", "2001:db8::1", Some(443)),
        ("2001:db8::1", "2001:db8::1", None),
    ] {
        let wanted = address.parse().map(|address| Endpoint { address, port }).ok();
        assert_eq!(parse_endpoint(text).ok(), wanted, "{text}");
    }
    for text in ["", "host:80", "192.0.2.1:", "192.0.2.1:65536", "[2001:db8::1]", "192.0.2.300"] {
        assert!(parse_endpoint(text).is_err(), "{text}");
    }
}

#[test]
fn seeds_are_exactly_thirty_two_hex_digits_and_print_back() {
    let text = "00ff102030405060708090a0b0c0d0e0";
    assert_eq!(parse_seed(text).map(|seed| seed.to_string()), Ok(text.into()));
    for text in [
        "",
        "0",
        "00ff102030405060708090a0b0c0d0e",
        "00ff102030405060708090a0b0c0d0e00",
        "+0ff102030405060708090a0b0c0d0e0",
    ] {
        assert!(parse_seed(text).is_err(), "{text}");
    }
    assert!(parse_seed("ééééééééééééééé").is_err());
}

#[test]
fn durations_have_a_unit() {
    assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
    assert_eq!(parse_duration("1500ms"), Ok(Duration::from_millis(1500)));
    assert_eq!(parse_duration("4m"), Ok(Duration::from_secs(240)));
    for text in ["", "5", "s", "-1s", "1.5s", "5 s", "99999999999999999999s", "18446744073709551615h"] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
}

#[test]
fn only_unicast_addresses_are_a_ports_own() {
    assert!(parse_port_mac("u=02:00:00:00:00:01").is_ok());
    for text in [
        "u=ff:ff:ff:ff:ff:ff",
        "u=01:00:5e:00:00:01",
        "u=00:00:00:00:00:00",
        "u=2:0:0:0:0:1",
        "u=02:00:00:00:00:01:02",
        "u=02:00:00:00:00",
        "u=+2:00:00:00:00:01",
    ] {
        assert!(parse_port_mac(text).is_err(), "{text}");
    }
}

#[test]
fn protocols_have_names_and_numbers() {
    assert_eq!(parse_protocol("tcp"), Ok(Protocol::Number(6)));
    assert_eq!(parse_protocol("icmp"), Ok(Protocol::Icmp));
    assert_eq!(parse_protocol("132"), Ok(Protocol::Number(132)));
    assert!(parse_protocol("256").is_err() && parse_protocol("TCP ").is_err());
}
