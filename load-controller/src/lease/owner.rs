//! The owner of the Lease: the service account of the controllers, so that the Lease goes with the installation.
//!
//! A controller may not delete its Lease, and the chart cannot: a controller that still ends would make it anew. With
//! an owner reference Kubernetes' garbage collector deletes it, however the service account is deleted. The account
//! outlives upgrades, unlike a pod, and its uid takes no right to read: each account may ask who it is.

use k8s_openapi::{
    api::authentication::v1::{SelfSubjectReview, UserInfo},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{Api, Client, api::PostParams};

/// What the Lease goes with.
#[derive(Debug, PartialEq)]
pub(super) enum Owner {
    /// Nobody has asked yet.
    Unknown,
    /// Nothing: it stays.
    Nobody,
    /// This service account.
    Account(OwnerReference),
}

/// The service account as which `client` acts, if it is one of `namespace`. A person owns no Lease, nor does anybody
/// where accounts may not ask who they are.
///
/// # Errors
/// When the API server does not answer.
pub(super) async fn find(client: &Client, namespace: &str) -> Result<Owner, kube::Error> {
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let user = match reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await {
        Ok(review) => review.status.and_then(|status| status.user_info),
        // Of a path that it does not know, an API server says so without a reason.
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => None,
        Err(error) => return Err(error),
    };
    Ok(user.and_then(|user| owner(&user, namespace)).map_or(Owner::Nobody, Owner::Account))
}

fn owner(user: &UserInfo, namespace: &str) -> Option<OwnerReference> {
    let account = user.username.as_deref()?.strip_prefix("system:serviceaccount:")?;
    let (_, name) = account.split_once(':').filter(|(of, _)| *of == namespace)?;
    let uid = user.uid.clone().filter(|uid| !uid.is_empty())?;
    Some(OwnerReference {
        api_version: "v1".into(),
        kind: "ServiceAccount".into(),
        name: name.into(),
        uid,
        ..OwnerReference::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(username: &str, uid: &str, expected: Option<&str>) {
        let user = UserInfo { username: Some(username.into()), uid: Some(uid.into()), ..UserInfo::default() };
        assert_eq!(owner(&user, "simctl").map(|owner| owner.name).as_deref(), expected, "{username}");
    }

    #[test]
    fn a_service_account_of_the_namespace_owns_the_lease_and_nobody_else() {
        check("system:serviceaccount:simctl:load-controller", "u", Some("load-controller"));
        // A reference to another namespace would be one to nothing, and the Lease be deleted.
        check("system:serviceaccount:elsewhere:load-controller", "u", None);
        check("system:serviceaccount:simctl:load-controller", "", None);
        check("kubernetes-admin", "u", None);
    }
}
