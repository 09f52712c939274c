"""Containers by the paths of their cgroups, as their engines write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forklore.decode.containers import Container, container

ID = "3f1b0c9e77aa" + "0" * 52


@pytest.mark.parametrize(
    ("path", "engine", "name"),
    [
        (f"0::/system.slice/docker-{ID}.scope", "docker", ID),
        (f"0::/docker/{ID}", "docker", ID),
        (f"0::/docker/{ID}/init.scope", "docker", ID),
        (f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container", "podman", ID),
        (f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope", "containerd", ID),
        (f"0::/kubepods.slice/kubepods-besteffort.slice/crio-{ID}.scope", "CRI-O", ID),
        (f"0::/kubepods/besteffort/pod0f-1/{ID}", "Kubernetes", ID),
        ("0::/lxc.payload.web/system.slice/cron.service", "LXC", "web"),
        ("0::/lxc/web", "LXC", "web"),
        ("0::/machine.slice/systemd-nspawn@deb.service/payload", "systemd-nspawn", "deb"),
        ("0::/machine.slice/machine-deb.scope", "systemd-nspawn", "deb"),
        (f"0::/lxc.payload.web/docker/{ID}", "docker", ID),
    ],
)
def test_each_engine_names_its_containers(path: str, engine: str, name: str) -> None:
    assert container(path) == Container(engine, name)


@pytest.mark.parametrize(
    "path", ["0::/", "0::/user.slice/user-0.slice/session-1.scope", "0::/system.slice/docker.service", "0::/docker/x"]
)
def test_other_cgroups_are_of_none(path: str) -> None:
    assert container(path) is None


def test_an_id_is_shown_as_engines_show_it_and_a_name_whole() -> None:
    assert Container("docker", ID).short == ID[:12]
    assert Container("LXC", "a-very-long-name-of-one").short == "a-very-long-name-of-one"


@given(st.text(max_size=80))
def test_any_path_has_an_answer(path: str) -> None:
    found = container(path)
    assert found is None or found.name in path
