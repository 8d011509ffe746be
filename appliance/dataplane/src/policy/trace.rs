//! A decision told step by step, for people: which rule decided at each level, and which ones nearly would have.

use super::{Context, Level, Policy};
use crate::addr::Addr;
use crate::policy::classifier::Classify;
use crate::policy::compiled::{Group, failing, is_platform};
use crate::verdict::RuleId;
use crate::wire::FlowKey;
use core::fmt;
use nva_config::{Access, Direction};

/// What one level says. Levels behind a deny are not asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelTrace {
    /// Which level.
    pub level: Level,
    /// What its group says; `None`: there is no group here, which lets everything through, save where it is closed by default.
    pub judgement: Option<Judgement>,
    /// There is a group, which has no say: the packet is for the platform's own services.
    pub to_platform: bool,
    /// A load balancer leads nowhere from outside while neither inbound level has a group: denied, said of the last level.
    pub closed_by_default: bool,
}

/// What a group says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The group's name.
    pub group: String,
    /// The deciding rule's number.
    pub id: RuleId,
    /// The deciding rule's name.
    pub rule: String,
    /// Its priority.
    pub priority: u16,
    /// What it decides.
    pub access: Access,
    /// The rules before it that fail in one field only, in their order.
    pub near_misses: Vec<NearMiss>,
}

/// A rule that would have decided, but for one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearMiss {
    /// Its name.
    pub rule: String,
    /// Its priority.
    pub priority: u16,
    /// What it would have decided.
    pub access: Access,
    /// The field.
    pub failed: RuleField,
}

/// What a rule compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuleField {
    /// `protocol`.
    Protocol,
    /// `source`.
    Source,
    /// `source_ports`.
    SourcePorts,
    /// `destination`.
    Destination,
    /// `destination_ports`.
    DestinationPorts,
}

impl RuleField {
    /// The field's name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Protocol => "protocol",
            Self::Source => "source",
            Self::SourcePorts => "source_ports",
            Self::Destination => "destination",
            Self::DestinationPorts => "destination_ports",
        }
    }
}

impl fmt::Display for RuleField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Policy {
    /// The way to [`decide`](Self::decide)'s answer.
    pub fn trace(&self, key: &FlowKey, context: Context) -> Vec<LevelTrace> {
        self.trace_at(key, context, key.dst)
    }

    /// The way to [`decide_at`](Self::decide_at)'s answer.
    pub fn trace_at(&self, key: &FlowKey, context: Context, location: Addr) -> Vec<LevelTrace> {
        let groups = self.levels(key.src, location);
        let closed = self.is_closed(key, context, &groups);
        let mut levels = Vec::with_capacity(Level::ALL.len());
        for (level, group) in Level::ALL.into_iter().zip(groups) {
            let judgement = group.and_then(|group| judge(group, level, key));
            let to_platform = group.is_some() && judgement.is_none();
            let denied = judgement.as_ref().is_some_and(|judgement| judgement.access == Access::Deny);
            let closed_by_default = closed && level == Level::InterfaceInbound;
            levels.push(LevelTrace { level, judgement, to_platform, closed_by_default });
            if denied {
                break;
            }
        }
        levels
    }
}

fn judge(group: &Group, level: Level, key: &FlowKey) -> Option<Judgement> {
    let (rules, place) = if level.direction() == Direction::Outbound && is_platform(key.dst) {
        group.decide_for_platform(key)?
    } else {
        let rules = group.rules(level.direction());
        (rules, rules.classify(key)?)
    };
    let (_, deciding, _) = rules.iter().find(|(number, ..)| *number as usize == place)?;
    let near_misses = rules
        .iter()
        .take_while(|(number, ..)| *number as usize != place)
        .filter_map(|(_, rule, pattern)| {
            let mut failing = failing(pattern, key);
            let failed = failing.next()?;
            failing.next().is_none().then(|| NearMiss {
                rule: rule.name.clone(),
                priority: rule.priority,
                access: rule.access,
                failed,
            })
        })
        .collect();
    Some(Judgement {
        group: group.name().to_owned(),
        id: deciding.id,
        rule: deciding.name.clone(),
        priority: deciding.priority,
        access: deciding.access,
        near_misses,
    })
}
