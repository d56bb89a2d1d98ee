//! The table `policy`: limits over those of a preset or of the default.

use std::time::Duration;

use serde::Deserialize;

use super::duration::{DurationText, IdleText, shown};
use crate::error::Error;
use crate::policy::{Kind, Limits, Policy};

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PolicyTable {
    preset: Option<Preset>,
    browser: LimitsTable,
    refresh_after: Option<DurationText>,
    remember: LimitsTable,
    remember_refresh_after: Option<DurationText>,
    anonymous: Option<LimitsTable>,
    clock_skew: Option<DurationText>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
enum Preset {
    #[serde(rename = "nist-aal1")]
    NistAal1,
    #[serde(rename = "nist-aal2")]
    NistAal2,
    #[serde(rename = "nist-aal3")]
    NistAal3,
    #[serde(rename = "pci")]
    Pci,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
struct LimitsTable {
    absolute_timeout: Option<DurationText>,
    // So that null is refused: some would mean no limit by it.
    #[serde(deserialize_with = "given")]
    idle_timeout: Option<IdleText>,
}

impl PolicyTable {
    pub(super) fn policy(&self) -> Result<Policy, Error> {
        let base = self.preset.map_or_else(Policy::default, Preset::policy);
        let browser = self.column("browser", self.browser, limits(&base, Kind::Browser)?)?;
        let remember = self.column("remember", self.remember, limits(&base, Kind::Remember)?)?;
        let mut policy = base.browser(browser).remember(remember);
        if let Some(DurationText(after)) = self.refresh_after {
            policy = policy.refresh_after(after);
        }
        if let Some(DurationText(after)) = self.remember_refresh_after {
            policy = policy.remember_refresh_after(after);
        }
        if let Some(anonymous) = self.anonymous {
            policy = policy.anonymous(anonymous.over("anonymous", browser)?);
        }
        if let Some(DurationText(skew)) = self.clock_skew {
            policy = policy.clock_skew(skew);
        }
        policy.validate()?;
        Ok(policy)
    }

    /// The limits of those who signed in, which a rule book is about.
    fn column(&self, name: &str, table: LimitsTable, base: Limits) -> Result<Limits, Error> {
        if let Some(preset) = self.preset {
            table.check_within(name, preset, base)?;
        }
        table.over(name, base)
    }
}

impl Preset {
    fn policy(self) -> Policy {
        match self {
            Self::NistAal1 => Policy::nist_aal1(),
            Self::NistAal2 => Policy::nist_aal2(),
            Self::NistAal3 => Policy::nist_aal3(),
            Self::Pci => Policy::pci(),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::NistAal1 => "nist-aal1",
            Self::NistAal2 => "nist-aal2",
            Self::NistAal3 => "nist-aal3",
            Self::Pci => "pci",
        }
    }
}

impl LimitsTable {
    /// These limits, and those of `base` where nothing is said.
    fn over(self, name: &str, base: Limits) -> Result<Limits, Error> {
        let absolute_timeout = self.absolute_timeout.map_or(base.absolute_timeout, |text| text.0);
        let idle_timeout = self.idle_timeout.map_or(base.idle_timeout, |text| text.0);
        if let Some(idle) = idle_timeout.filter(|idle| *idle > absolute_timeout) {
            // One of them may stand in the table and the other come from elsewhere.
            let (idle, absolute) = (shown(idle), shown(absolute_timeout));
            return Err(Error::config(format!(
                "policy.{name}: idle_timeout, {idle}, must not be over absolute_timeout, \
                 {absolute}: set both"
            )));
        }
        Ok(Limits { absolute_timeout, idle_timeout })
    }

    /// Refuses what a rule book does not allow.
    fn check_within(self, name: &str, preset: Preset, most: Limits) -> Result<(), Error> {
        let refuse = |field: &str, given: &str, most: Duration| {
            let (most, preset) = (shown(most), preset.name());
            Err(Error::config(format!(
                "policy.{name}.{field}: {given} is over the {most} of preset \"{preset}\": shorten \
                 it, or leave out the preset"
            )))
        };
        if let Some(DurationText(given)) = self.absolute_timeout
            && given > most.absolute_timeout
        {
            return refuse("absolute_timeout", &shown(given).to_string(), most.absolute_timeout);
        }
        match (self.idle_timeout, most.idle_timeout) {
            (Some(IdleText(None)), Some(most)) => refuse("idle_timeout", "\"none\"", most),
            (Some(IdleText(Some(given))), Some(most)) if given > most => {
                refuse("idle_timeout", &shown(given).to_string(), most)
            }
            _ => Ok(()),
        }
    }
}

/// The limits that a policy has for sessions of this kind.
fn limits(policy: &Policy, kind: Kind) -> Result<Limits, Error> {
    let (absolute, idle) = policy.limits(kind, None)?;
    let seconds = |n| Duration::from_secs(u64::from(n));
    Ok(Limits {
        absolute_timeout: seconds(absolute),
        idle_timeout: (idle != 0).then(|| seconds(idle)),
    })
}

fn given<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}
