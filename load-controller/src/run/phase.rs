//! The parts of a run that are measured apart: each has a name, and may let devices come or leave.

use std::{fmt, str::FromStr};

use fleet_contract::{
    plan::{Plan, Setting},
    units::{Rate, Span},
};

/// The most phases of a run: a worker measures each apart until its figures are kept.
pub const PHASES_MAX: usize = 64;

/// The longest that a phase lasts.
pub const LASTS_MAX: Span = Span::from_secs(7 * 24 * 3_600);

/// A part of a run. As text `NAME:TIME` or `NAME:A..B/TIME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// How many devices there are when it begins, and when it ends; `None` leaves them as they are.
    pub devices: Option<(u32, u32)>,
    /// How long it lasts.
    pub lasts: Span,
}

impl FromStr for Phase {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "expected a phase such as `steady:10m` or, with devices that come or leave, `ramp:0..500/2m`; found `{text}`{why}"
            )
        };
        let (name, rest) = text.split_once(':').ok_or_else(|| wrong(""))?;
        if name.is_empty() {
            return Err(wrong(", which has no name"));
        }
        let (devices, lasts) = match rest.rsplit_once('/') {
            None => (None, rest),
            Some((devices, lasts)) => {
                let (from, to) = devices.split_once("..").ok_or_else(|| wrong(""))?;
                let count = |text: &str| text.parse::<u32>().map_err(|error| wrong(&format!(": `{text}`: {error}")));
                (Some((count(from)?, count(to)?)), lasts)
            }
        };
        let lasts: Span = lasts.parse().map_err(|error| wrong(&format!(": {error}")))?;
        if lasts == Span::ZERO || lasts > LASTS_MAX {
            return Err(wrong(&format!("; a phase lasts longer than no time and at most {LASTS_MAX}")));
        }
        Ok(Self { name: name.into(), devices, lasts })
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, devices, lasts } = self;
        match devices {
            Some((from, to)) => write!(f, "{name}:{from}..{to}/{lasts}"),
            None => write!(f, "{name}:{lasts}"),
        }
    }
}

/// The phases of a run, one after the other from its start on; none is a run that is not divided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Phases(Vec<Phase>);

/// A phase in its place.
#[derive(Debug, Clone, Copy)]
pub struct Spanned<'a> {
    /// Its number in the plan and in statistics.
    pub number: u32,
    /// The phase.
    pub phase: &'a Phase,
    /// When it begins, from the start of the run on.
    pub after: Span,
}

impl Phases {
    /// These phases.
    ///
    /// # Errors
    ///
    /// When there are more than [`PHASES_MAX`], or two of one name.
    pub fn new(phases: Vec<Phase>) -> Result<Self, String> {
        if phases.len() > PHASES_MAX {
            return Err(format!("expected at most {PHASES_MAX} phases, found {}", phases.len()));
        }
        for (number, phase) in phases.iter().enumerate() {
            if phases[..number].iter().any(|earlier| earlier.name == phase.name) {
                return Err(format!("expected each phase to have a name of its own, found `{}` twice", phase.name));
            }
        }
        Ok(Self(phases))
    }

    /// How long all of them last; `None` where there is none.
    pub fn last(&self) -> Option<Span> {
        (!self.0.is_empty()).then(|| Span(self.0.iter().map(|phase| phase.lasts.0).sum()))
    }

    /// The devices that there are when the run begins, if a phase says so.
    pub fn devices_first(&self) -> Option<u32> {
        self.0.first().and_then(|phase| phase.devices).map(|(from, _)| from)
    }

    /// The most devices that a phase asks for.
    pub fn devices_most(&self) -> Option<u32> {
        self.0.iter().filter_map(|phase| phase.devices).map(|(from, to)| from.max(to)).max()
    }

    /// The phases with their instants.
    pub fn spanned(&self) -> impl Iterator<Item = Spanned<'_>> {
        let begins = self.0.iter().scan(0, |after, phase| {
            let begins = Span(*after);
            *after += phase.lasts.0;
            Some(begins)
        });
        (0..).zip(&self.0).zip(begins).map(|((number, phase), after)| Spanned { number, phase, after })
    }

    /// Writes them into the plan of a run that begins, for a fleet whose devices connect at `rate`.
    pub fn plan(&self, plan: &mut Plan, rate: Rate) {
        for Spanned { number, phase, after } in self.spanned() {
            let at = plan.start.after(after);
            plan.set(at, Setting::Phase(number), rate);
            if let Some((from, to)) = phase.devices {
                if plan.devices(at) != from {
                    plan.set(at, Setting::Devices(from), rate);
                }
                plan.set(at, Setting::Ramp { to, over: phase.lasts }, rate);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fleet_contract::time::Micros;

    use super::*;

    fn phases(texts: &[&str]) -> Result<Phases, String> {
        Phases::new(texts.iter().map(|text| text.parse()).collect::<Result<_, _>>()?)
    }

    #[test]
    fn phases_read_as_documented() {
        let ramp = Phase { name: "ramp".into(), devices: Some((0, 500)), lasts: Span::from_secs(120) };
        assert_eq!("ramp:0..500/2m".parse(), Ok(ramp));
        let steady = Phase { name: "steady".into(), devices: None, lasts: Span::from_secs(600) };
        assert_eq!("steady:10m".parse(), Ok(steady));
        for text in ["steady:10m", "ramp:0..500/2m"] {
            assert_eq!(text.parse::<Phase>().unwrap().to_string(), text);
        }
        for (text, why) in [
            ("steady", "found `steady`"),
            (":1m", "no name"),
            ("a:500/1m", "found `a:500/1m`"),
            ("a:0..x/1m", "`x`: invalid digit"),
            ("a:0s", "longer than no time"),
            ("a:8d", "found `a:8d`"),
            ("a:200h", "at most 168h"),
        ] {
            let error = text.parse::<Phase>().unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let twice = phases(&["a:1m", "b:1m", "a:2m"]).unwrap_err();
        assert_eq!(twice, "expected each phase to have a name of its own, found `a` twice");
        let many: Vec<String> = (0..65).map(|number| format!("p{number}:1s")).collect();
        assert!(phases(&many.iter().map(String::as_str).collect::<Vec<_>>()).is_err());
    }

    #[test]
    fn a_plan_has_their_instants_and_their_devices() {
        let phases = phases(&["ramp:0..100/10s", "steady:20s", "spike:300..50/1s"]).unwrap();
        assert_eq!((phases.last(), phases.devices_first()), (Some(Span::from_secs(31)), Some(0)));
        assert_eq!(phases.devices_most(), Some(300));
        let start = Micros(1_000_000_000);
        let mut plan = Plan::new(1, start, 0);
        phases.plan(&mut plan, "1/s".parse().unwrap());
        let at = |millis| start.after(Span::from_millis(millis));
        assert_eq!(plan.phases().collect::<Vec<_>>(), [(at(0), 0), (at(10_000), 1), (at(30_000), 2)]);
        let devices = [0, 5_000, 10_000, 29_999, 30_000, 31_000, 60_000].map(|millis| plan.devices(at(millis)));
        // The first comes, and the first leaves, at the very beginning.
        assert_eq!(devices, [1, 51, 100, 100, 299, 50, 50]);
    }
}
