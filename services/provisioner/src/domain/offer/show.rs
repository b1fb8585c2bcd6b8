//! The offer as on the wire. It is sent with every change of the session, so it must stay small.

use foundry_proto::common::v1::{
    AgentCommand, AgentOption, AgentOptionChoice, AgentOptions, AgentUsage, Condition,
};
use prost::Message as _;

use super::{ChoiceState, Choosable, Chosen, Offer};

/// Largest size in bytes; the whole session is at most 16 KiB.
pub(super) const MAX_SHOWN: usize = 5 << 10;

impl Offer {
    /// What can be chosen and the commands; none before the agent has sent them.
    pub fn shown(&self) -> Option<AgentOptions> {
        if !self.known {
            return None;
        }
        let option = |o: &Choosable| shown_option(o, self.chosen.get(&o.id));
        let command = |c: &super::Command| AgentCommand {
            name: c.name.clone(),
            description: c.description.clone(),
            hint: c.hint.clone(),
        };
        let options = AgentOptions {
            options: self.options.iter().map(option).collect(),
            commands: self.commands.iter().map(command).collect(),
            truncated: self.cut,
        };
        Some(fitting(options))
    }

    /// Context and cost; none when the agent reports neither.
    pub fn shown_usage(&self) -> Option<AgentUsage> {
        self.usage.as_ref().map(|u| AgentUsage {
            used: u.used,
            size: u.size,
            cost_micros: u.cost_micros,
            currency: u.currency.clone(),
        })
    }
}

fn shown_option(option: &Choosable, chosen: Option<&Chosen>) -> AgentOption {
    let choice = |c: &super::Choice| AgentOptionChoice {
        value: c.value.clone(),
        name: c.name.clone(),
        description: c.description.clone(),
    };
    let open = chosen.filter(|c| c.state != ChoiceState::Holds);
    AgentOption {
        option_id: option.id.clone(),
        name: option.name.clone(),
        description: option.description.clone(),
        category: option.category.clone(),
        value: option.value.clone(),
        choices: option.choices.iter().map(choice).collect(),
        truncated: option.more,
        wanted: open.map(|c| c.value.clone()).unwrap_or_default(),
        condition: open.map(condition),
    }
}

fn condition(chosen: &Chosen) -> Condition {
    let since_time = Some(chosen.since.to_proto());
    match &chosen.state {
        ChoiceState::Refused { reason, message } => Condition {
            reason: reason.clone(),
            message: message.clone(),
            since_time,
            next_action: "choose another value".to_owned(),
            ..Condition::default()
        },
        _ => Condition { waiting_on: "the agent".to_owned(), since_time, ..Condition::default() },
    }
}

/// Leaves out what matters least until it is small enough: descriptions of values and commands first, then values and
/// commands, options last. The value in effect and the wanted one are kept.
fn fitting(mut all: AgentOptions) -> AgentOptions {
    let fits = |all: &AgentOptions| all.encoded_len() <= MAX_SHOWN;
    if fits(&all) {
        return all;
    }
    all.options.iter_mut().flat_map(|o| &mut o.choices).for_each(|c| c.description.clear());
    while !fits(&all) {
        all.truncated = true;
        let commands = all.commands.len();
        let most = all.options.iter_mut().max_by_key(|o| o.choices.len());
        if let Some(option) = most.filter(|o| o.choices.len() >= commands.max(5)) {
            fewer(option);
        } else if commands > 0 {
            all.commands.truncate(commands / 2);
        } else if all.options.pop().is_none() {
            break;
        }
    }
    all
}

fn fewer(option: &mut AgentOption) {
    let keep = option.choices.len() / 2;
    let matters = |c: &AgentOptionChoice| c.value == option.value || c.value == option.wanted;
    let (mut kept, rest): (Vec<_>, Vec<_>) =
        std::mem::take(&mut option.choices).into_iter().partition(matters);
    let room = keep.saturating_sub(kept.len());
    let mut others: Vec<_> = rest.into_iter().take(room).collect();
    others.append(&mut kept);
    option.choices = others;
    option.truncated = true;
}
