#!/bin/sh
# Installs edgek and starts it. Running it again upgrades in place; pods go on running. `edgek uninstall` takes
# everything away again.
#   sudo ./install.sh                  builds edgek from this checkout first
#   sudo ./install.sh --binary PATH    installs this file
# It runs a server, or an agent when /etc/edgek/config.yaml names a `server:` to join.
set -eu

fail() {
    printf 'install.sh: %s\n' "$@" >&2
    exit 1
}

binary=
case "${1:-}" in
"") ;;
--binary)
    [ $# -eq 2 ] || fail "--binary needs one path"
    binary=$(realpath "$2")
    ;;
*)
    echo "usage: sudo ./install.sh [--binary PATH]" >&2
    exit 64
    ;;
esac
[ "$(id -u)" = 0 ] || fail "not root; use sudo"

build() {
    cd "$(dirname "$0")"
    # Toolchains are often installed for the user who calls sudo.
    for home in "${SUDO_USER:+$(getent passwd "${SUDO_USER:-}" | cut -d: -f6)}" "$HOME"; do
        [ -d "$home/.cargo/bin" ] && PATH="$PATH:$home/.cargo/bin"
    done
    PATH="$PATH:/usr/local/go/bin"
    export PATH
    scripts/deps build
    cargo xtask dist
    binary=$PWD/build/release/edgek
}

role=server
if grep -qs '^server:' /etc/edgek/config.yaml; then
    role=agent
fi

write_unit() {
    cat >/etc/systemd/system/edgek.service <<UNIT
[Unit]
Description=edgek: Kubernetes for the edge
After=network.target
# A machine at the edge never gives up.
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart=/usr/local/bin/edgek run $role
# Containers and their shims go on when edgek ends.
KillMode=process
Delegate=yes
Restart=always
RestartSec=2
# A wrong configuration does not mend by itself, nor does a cluster's refusal.
RestartPreventExitStatus=2 5
TimeoutStartSec=300
LimitNOFILE=1048576
TasksMax=infinity
OOMScoreAdjust=-999

[Install]
WantedBy=multi-user.target
UNIT
}

# Both ways fail when edgek itself says that it cannot start.
start() {
    if [ -d /run/systemd/system ]; then
        write_unit && systemctl daemon-reload && systemctl --quiet enable edgek.service &&
            systemctl restart edgek.service
    else
        edgek service stop && edgek service start
    fi
}

wait_ready() {
    # An agent says that it is ready to whoever started it; its node is in the server's list.
    [ "$role" = server ] || return 0
    echo "waiting for the node to become Ready"
    tries=0
    until edgek kubectl wait --for=condition=Ready node --all --timeout=5s >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 60 ] && is_alive || return 1
        sleep 1
    done
}

# systemd starts it again after most failures, the supervisor too; neither does when the configuration is wrong.
is_alive() {
    if [ -d /run/systemd/system ]; then
        ! systemctl --quiet is-failed edgek.service
    else
        edgek service status >/dev/null 2>&1
    fi
}

show_log() {
    echo "the last lines of its log:" >&2
    if [ -d /run/systemd/system ]; then
        journalctl --unit edgek --lines 15 --no-pager --output cat >&2
        again="systemctl restart edgek"
    else
        tail -n 15 /var/log/edgek.log >&2
        again="edgek service stop; edgek service start"
    fi
}

[ -n "$binary" ] || build
"$binary" --version || fail "$binary does not run on this machine"
install -d /usr/local/bin
install -m 755 -T "$binary" /usr/local/bin/.edgek.new
mv -f /usr/local/bin/.edgek.new /usr/local/bin/edgek
PATH="/usr/local/bin:$PATH"

if ! { start && wait_ready; }; then
    show_log
    fail "edgek is installed, but the node is not Ready" "\`edgek check\` looks for causes; then: $again"
fi
if [ "$role" = agent ]; then
    echo "edgek runs and has joined; \`edgek kubectl get nodes\` on the server shows this machine"
    exit
fi
edgek kubectl get nodes

cat <<'NEXT'

edgek runs. Try:
  sudo edgek kubectl create deployment web --image=<image>
  sudo edgek kubectl get pods -A
Your own kubectl and helm work with KUBECONFIG=/etc/edgek/edgek.yaml
To take everything away again: sudo edgek uninstall
NEXT
