//! Why a pod does not run: from the states of its containers and the events about it. Pure.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Event};

use super::reason::Reason;

/// Why a pod does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// The kind of cause.
    pub reason: Reason,
    /// Kubernetes' own word for it: `ImagePullBackOff`.
    pub word: String,
    /// The cause in a sentence, without the pod's name, so that many pods have the same.
    pub message: String,
}

impl Diagnosis {
    /// What a container waits for, beyond what each start takes.
    pub fn of_container(status: &ContainerStatus) -> Option<Self> {
        let waiting = status.state.as_ref()?.waiting.as_ref()?;
        let word = waiting.reason.clone()?;
        let detail = waiting.message.clone().unwrap_or_default();
        let (reason, message) = match word.as_str() {
            "ContainerCreating" | "PodInitializing" => return None,
            "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" => {
                (Reason::ImageUnavailable, format!("image {} cannot be pulled: {word}", status.image))
            }
            "CreateContainerConfigError" if names_missing_object(&detail) => (Reason::SecretMissing, detail),
            "CrashLoopBackOff" => {
                let ended = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
                (Reason::PodCrashing, ended.map_or_else(|| "its container ends again and again".into(), crash))
            }
            _ => (Reason::PodsMissing, if detail.is_empty() { word.clone() } else { format!("{word}: {detail}") }),
        };
        Some(Self { reason, word, message })
    }

    /// What an event says about a pod that stays in `ContainerCreating`: a volume that cannot be mounted.
    pub fn of_event(event: &Event) -> Option<Self> {
        let word = event.reason.clone()?;
        let message = event.message.clone().unwrap_or_default();
        let reason = match word.as_str() {
            "FailedMount" if names_missing_object(&message) => Reason::SecretMissing,
            "FailedMount" | "FailedAttachVolume" | "FailedCreatePodSandBox" | "Evicted" => Reason::PodsMissing,
            _ => return None,
        };
        // "MountVolume.SetUp failed for volume "credentials" : secret "prod" not found"
        let cause = message.rsplit_once(" : ").map_or(message.as_str(), |(_, cause)| cause).to_owned();
        Some(Self { reason, word, message: cause })
    }
}

/// How a container ended the last time; the kubelet hands over the last lines of its log where it left no message.
fn crash(ended: &ContainerStateTerminated) -> String {
    let why = ended.reason.as_deref().unwrap_or("Error");
    let last = ended.message.as_deref().and_then(|message| message.trim().lines().last());
    let last = last.map_or(String::new(), |line| format!(": {line}"));
    format!("its container ends again and again, last with exit code {} ({why}){last}", ended.exit_code)
}

fn names_missing_object(message: &str) -> bool {
    message.contains("not found") || message.contains("references non-existent")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check_container(waiting: &serde_json::Value, expected: Option<(Reason, &str)>) {
        let status = serde_json::from_value(json!({
            "name": "c", "image": "registry.example/x:1", "imageID": "", "ready": false, "restartCount": 3,
            "state": {"waiting": waiting},
            "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": "a\nno space left on device\n"}},
        }));
        let found = Diagnosis::of_container(&status.unwrap());
        assert_eq!(found.as_ref().map(|found| (found.reason, found.message.as_str())), expected);
    }

    #[test]
    fn a_container_that_waits_says_for_what() {
        check_container(&json!({"reason": "ContainerCreating"}), None);
        check_container(
            &json!({"reason": "ImagePullBackOff", "message": "Back-off"}),
            Some((Reason::ImageUnavailable, "image registry.example/x:1 cannot be pulled: ImagePullBackOff")),
        );
        check_container(
            &json!({"reason": "CreateContainerConfigError", "message": "secret \"prod\" not found"}),
            Some((Reason::SecretMissing, "secret \"prod\" not found")),
        );
        check_container(
            &json!({"reason": "CrashLoopBackOff"}),
            Some((
                Reason::PodCrashing,
                "its container ends again and again, last with exit code 1 (Error): no space left on device",
            )),
        );
        check_container(
            &json!({"reason": "RunContainerError", "message": "no such file"}),
            Some((Reason::PodsMissing, "RunContainerError: no such file")),
        );
    }

    #[track_caller]
    fn check_event(reason: &str, message: &str, expected: Option<(Reason, &str)>) {
        let event = json!({"metadata": {}, "involvedObject": {}, "reason": reason, "message": message});
        let found = Diagnosis::of_event(&serde_json::from_value(event).unwrap());
        assert_eq!(found.as_ref().map(|found| (found.reason, found.message.as_str())), expected);
    }

    #[test]
    fn a_volume_that_is_not_mounted_is_known_by_its_event() {
        check_event(
            "FailedMount",
            "MountVolume.SetUp failed for volume \"credentials\" : secret \"prod\" not found",
            Some((Reason::SecretMissing, "secret \"prod\" not found")),
        );
        check_event(
            "FailedMount",
            "MountVolume.SetUp failed for volume \"credentials\" : references non-existent secret key: password",
            Some((Reason::SecretMissing, "references non-existent secret key: password")),
        );
        check_event("Evicted", "usage exceeds the limit", Some((Reason::PodsMissing, "usage exceeds the limit")));
        check_event("Pulled", "image is there", None);
    }
}
