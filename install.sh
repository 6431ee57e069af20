#!/bin/sh
# Installs edgek from this checkout and starts it: `sudo ./install.sh`. Running it again upgrades in place; pods go on
# running. `edgek uninstall` takes everything away again.
set -eu
cd "$(dirname "$0")"

[ "$(id -u)" = 0 ] || {
    echo "install.sh: not root; use sudo" >&2
    exit 1
}

# Toolchains are often installed for the user who calls sudo.
for home in "${SUDO_USER:+$(getent passwd "${SUDO_USER:-}" | cut -d: -f6)}" "$HOME"; do
    [ -d "$home/.cargo/bin" ] && PATH="$PATH:$home/.cargo/bin"
done
PATH="$PATH:/usr/local/go/bin"
export PATH

scripts/deps build
cargo xtask embed
cargo xtask dist

install -m 755 -T build/release/edgek /usr/local/bin/.edgek.new
mv -f /usr/local/bin/.edgek.new /usr/local/bin/edgek

if [ -d /run/systemd/system ]; then
    cat >/etc/systemd/system/edgek.service <<'UNIT'
[Unit]
Description=edgek: Kubernetes for the edge
After=network.target

[Service]
Type=notify
ExecStart=/usr/local/bin/edgek run server
# Containers and their shims go on when edgek ends.
KillMode=process
Delegate=yes
Restart=always
RestartSec=2
LimitNOFILE=1048576
TasksMax=infinity
OOMScoreAdjust=-999

[Install]
WantedBy=multi-user.target
UNIT
    systemctl daemon-reload
    systemctl enable edgek.service
    systemctl restart edgek.service
else
    edgek service stop
    edgek service start
fi

echo "waiting for the node to become Ready"
tries=0
until edgek kubectl wait --for=condition=Ready node --all --timeout=5s >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ $tries -ge 60 ]; then
        echo "install.sh: the node is not Ready; see \`edgek check\` and the log (journalctl -u edgek, or /var/log/edgek.log)" >&2
        exit 1
    fi
    sleep 1
done
edgek kubectl get nodes

cat <<'NEXT'

edgek runs. Try:
  sudo edgek kubectl create deployment web --image=<image>
  sudo edgek kubectl get pods -A
Your own kubectl and helm work with KUBECONFIG=/etc/edgek/edgek.yaml
NEXT
