"""Containers, virtual machines, clusters and clouds: what deletes, what opens the host, what gives rights away."""

from __future__ import annotations

import re
from collections.abc import Iterator

from overseer_training.guards.calls import values_of
from overseer_training.guards.places import place_of
from overseer_training.guards.rules.register import rule
from overseer_training.guards.shell import Call
from overseer_training.guards.verdicts import Verdict, ask, refuse
from overseer_training.guards.words import HOME, Word

ENGINES = ("docker", "podman", "nerdctl", "docker-compose", "podman-compose", "crictl", "ctr", "buildah")
CLUSTERS = (
    "kubectl",
    "oc",
    "helm",
    "kubeadm",
    "k3s",
    "kops",
    "eksctl",
    "nomad",
    "argocd",
    "flux",
    "velero",
    "minikube",
    "kind",
    "k3d",
)
MACHINES = (
    "virsh",
    "lxc",
    "incus",
    "VBoxManage",
    "vboxmanage",
    "qm",
    "pct",
    "vagrant",
    "multipass",
    "prlctl",
    "limactl",
    "xl",
    "govc",
)
CLOUDS = (
    *(
        "aws",
        "gcloud",
        "az",
        "gsutil",
        "doctl",
        "heroku",
        "linode-cli",
        "hcloud",
        "oci",
        "ibmcloud",
        "fly",
        "flyctl",
        "vercel",
        "netlify",
    ),
    *(
        "pulumi",
        "terraform",
        "tofu",
        "terragrunt",
        "vault",
        "consul",
        "etcdctl",
        "s3cmd",
        "s5cmd",
        "mc",
        "b2",
        "wrangler",
        "railway",
    ),
    *(
        "supabase",
        "firebase",
        "eb",
        "serverless",
        "cdk",
        "openstack",
        "scw",
        "exo",
        "gh",
        "glab",
        "restic",
        "borg",
        "packer",
        "aliyun",
    ),
)
HOST_FOLDERS = re.compile(
    rf"/|/(?:etc|root|home|boot|usr|bin|lib|dev|proc|sys|var|run)|{HOME}|/var/(?:run|lib)(?:/docker)?|/run/docker"
)
LOST = re.compile(
    r"(?:^|\s)(?:\w+[-:])*(?:delete|destroy|terminate|purge|drop|nuke|wipe|revoke|undefine|unregister|deregister|uninstall|forget|rb|remove)"
    r"(?:[-:][\w-]+)*(?:\s|$)|--remove-all|(?:^|\s)(?:delete|terminate|stop-logging|revoke|disable|deregister|schedule-key-deletion)\w*[-\w]*(?:\s|$)"
)
RIGHTS = re.compile(
    r"(?:attach|put)-\w*-?policy|create-access-key|create-login-profile|add-iam-policy-binding|set-iam-policy|clusterrolebinding|rolebinding"
    r"|authorize-security-group|0\.0\.0\.0/0|create-for-rbac|role\s+assignment\s+create|--allow-unauthenticated|public-read|allUsers"
    r"|put-bucket-(?:acl|policy)|put-public-access-block|security\.privileged|access\s+grant|add-user-to-group|update-assume-role"
    r"|adm\s+policy\s+add|--role\s+Owner|iam\s+ch|--visibility\s+public|secret\s+set"
)


@rule(*ENGINES)
def _containers(call: Call, folder: str) -> Iterator[Verdict]:
    texts, joined = call.texts, " ".join(call.texts)
    if re.search(
        r"--privileged|--cap-add[= ](?:ALL|SYS_\w+|DAC_\w+)|--(?:pid|ipc|uts|userns|cgroupns)[= ]host|seccomp[=:]unconfined|apparmor[=:]unconfined|--device[= ]/dev/(?:sd|nvme|mem|kmem)",
        joined,
    ):
        yield ask("a program in that container could take over this machine")
    for word in [*values_of(call, "-v", "--volume", "--mount")]:
        host = re.sub(r"^.*\b(?:source|src)=([^,]*).*$", r"\1", word.text).split(":")[0]
        path = place_of(Word(host, word.is_certain), folder).path
        if path.endswith(("docker.sock", "containerd.sock")):
            yield ask("a program in that container could take over this machine")
        elif host.startswith(("/", "~")) and HOST_FOLDERS.fullmatch(path):
            yield (refuse if path == "/" and re.search(r"\bchroot\b|\brm\b", joined) else ask)(
                f"the container could change {word.shown.split(':')[0]} of this machine"
            )
    many = re.search(
        r"\$\([^)]*\b(?:ps|images|ls|volume|container)\b(?!.*--?f(?:ilter)?\b)|`[^`]*\b(?:ps|images)\b", joined
    )
    if re.search(
        r"\bprune\b.*(?:\s-\w*a|--all|--volumes)|\bvolume\s+(?:rm|remove|prune)\b|\bsystem\s+(?:prune|reset)\b|\bnetwork\s+prune\b.*-f",
        joined,
    ):
        yield ask("data of containers may go")
    elif many and set(texts) & {"rm", "rmi", "kill", "stop", "remove"}:
        yield ask("all containers or images stop or go")
    elif "down" in texts and re.search(r"(?:^|\s)(?:-v|--volumes|--rmi)", joined):
        yield ask("data of containers goes")
    elif (
        re.search(r"\brm\w*\s+(?:.*\s)?-\w*a\w*\b", re.sub(r"\$\(.*\)|`.*`", "", joined))
        and not re.search(r"\brun\b|\bexec\b", joined)
    ) or (
        re.search(r"\bswarm\s+leave\b|\bcontext\s+rm|\bsecret\s+rm|\bstack\s+rm", joined)
        and not re.search(r"\brun\b|\bexec\b", joined)
    ):
        yield ask("what runs in containers goes")


@rule(*CLUSTERS)
def _clusters(call: Call, folder: str) -> Iterator[Verdict]:
    joined = " ".join(call.texts)
    before_command = joined.split(" -- ")[0]
    one_pod = re.fullmatch(
        r"(?:-n\s+\S+\s+)?delete\s+(?:pods?|po|job)[ /][\w.-]+(?:\s+-n\s+\S+|\s+--namespace\S*)*", joined
    )
    if RIGHTS.search(before_command):
        yield ask("it gives rights away")
    elif not one_pod and (
        LOST.search(before_command)
        or re.search(
            r"\bdrain\b|\bcordon\b|replicas=0|\breplace\b.*--force|\breset\b|\btaint\b|\bscale\b.*--all", before_command
        )
    ):
        yield ask("what runs in the cluster goes")


@rule(*MACHINES)
def _machines(call: Call, folder: str) -> Iterator[Verdict]:
    joined = " ".join(call.texts)
    if LOST.search(joined) or re.search(
        r"\bvol-wipe\b|unregistervm.*--delete|\bsnapshot-(?:delete|revert)\b|\brestore\b", joined
    ):
        yield ask("a virtual machine goes, or what is in it")
    elif RIGHTS.search(joined):
        yield ask("a program in it could take over this machine")


@rule(*CLOUDS)
def _clouds(call: Call, folder: str) -> Iterator[Verdict]:
    name, joined = call.name, " ".join(call.texts)
    if RIGHTS.search(joined):
        yield ask("it gives rights away or opens something to everybody")
    elif LOST.search(joined) and not (
        name in ("gh", "glab", "restic", "borg") and not re.search(r"\b(?:delete|forget|remove|prune)\b", joined)
    ):
        yield ask("it may delete what runs or is stored there")
    elif re.search(
        r"\brm\b.*(?:--recursive|\s-\w*r|--all)|\bsync\b.*--delete|\bdel\b|\bstate\s+rm\b|-auto-approve|--auto-approve|\bstop-\w+|\bdisable\b|lifecycle|\bmb\b.*-f|\bseal\b|\bunlink\b|\bkv\s+destroy|apps:destroy|pg:reset|--prefix.*''",
        joined,
    ):
        yield ask("it may delete or change what runs or is stored there without asking")
    elif name in ("restic", "borg") and re.search(r"\bprune\b|\bcompact\b|key\s+remove", joined):
        yield ask("backups go")
