#!/usr/bin/env bash
# From zero to an answer and back to zero, on this machine: a real llama.cpp, a tiny model that speaks word salad.
# Needs Rust, Python 3 and curl. PADDOCK_RELEASE=1 builds the release instead of the quicker development build.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly IDLE_TIMEOUT=5  # seconds without a request until the instance goes away
readonly LOAD_DELAY=2    # seconds that the server pretends to load a model
readonly STEP_MAX=60     # seconds that any one step may take
readonly PYTHON=.venv/bin/python

work=$(mktemp -d)
balancer=

cleanup() {
    local status=$?
    if [[ -n $balancer ]]; then
        kill -TERM "$balancer" 2>/dev/null || true
        for _ in {1..100}; do
            kill -0 "$balancer" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$balancer" 2>/dev/null || true
        wait "$balancer" 2>/dev/null || true
    fi
    if ((status != 0)) && [[ -s $work/log ]]; then
        printf '\nThe last lines of the gateway:\n' >&2
        tail -n 20 "$work/log" >&2
    fi
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

bold='' plain=''
if [[ -t 1 ]]; then
    bold=$'\033[1m' plain=$'\033[0m'
fi
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
fail() {
    printf '\ndemo: %s\n' "$*" >&2
    exit 1
}

# How many instances the gateway has, by its own account.
instances() {
    curl --silent --show-error --fail --noproxy '*' --max-time 5 "http://$management/api/v1/state" |
        "$PYTHON" -c 'import json, sys; print(len(json.load(sys.stdin)["pools"][0]["instances"]))'
}

# until_instances COUNT: waits for it.
until_instances() {
    local end=$((SECONDS + STEP_MAX))
    until [[ $(instances) == "$1" ]]; do
        ((SECONDS < end)) || fail "not $1 instances after $STEP_MAX s, but $(instances)"
        sleep 0.2
    done
}

# ask NAME: a streamed answer, printed as it comes; leaves NAME.events, and NAME.times with the seconds to the
# first byte and to the last.
ask() {
    curl --silent --show-error --fail-with-body --no-buffer --noproxy '*' --max-time "$STEP_MAX" \
        --header 'Content-Type: application/json' \
        --data '{"model":"tiny-random","stream":true,"max_tokens":40,
                 "messages":[{"role":"user","content":"Name some words."}]}' \
        --write-out "%{stderr}%{time_starttransfer} %{time_total}\n" \
        "http://$proxy/v1/chat/completions" 2>"$work/$1.times" |
        tee "$work/$1.events" |
        "$PYTHON" -u -c '
import json, sys
for line in sys.stdin:
    if line.startswith("data: {"):
        for choice in json.loads(line[6:]).get("choices", []):
            print(choice["delta"].get("content") or "", end="", flush=True)
print()
' || fail "no answer: $(cat "$work/$1.events" "$work/$1.times")"
    grep --quiet '^data: \[DONE\]' "$work/$1.events" || fail "the answer was cut: $(tail -n 1 "$work/$1.events")"
}

first_byte() { tail -n 1 "$work/$1.times" | cut -d ' ' -f 1; }
last_byte() { tail -n 1 "$work/$1.times" | cut -d ' ' -f 2; }
is_less() { "$PYTHON" -c 'import sys; sys.exit(not float(sys.argv[1]) < float(sys.argv[2]))' "$1" "$2"; }

command -v cargo >/dev/null || fail "no cargo: install Rust first"
command -v curl >/dev/null || fail "no curl: install it first"

say "Building the gateway, and a Python with llama.cpp's server"
if [[ ${PADDOCK_RELEASE:-0} == 1 ]]; then
    cargo build --release --bin paddock
    paddock=${CARGO_TARGET_DIR:-target}/release/paddock
else
    cargo build --bin paddock
    paddock=${CARGO_TARGET_DIR:-target}/debug/paddock
fi
make --silent venv
"$PYTHON" tests/support/tiny_model.py "$work/tiny.gguf"

read -r proxy management < <("$PYTHON" -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*("%s:%d" % s.getsockname() for s in sockets))
')
command=("$paddock" balancer --reverseproxy-addr "$proxy" --management-addr "$management"
    --idle-timeout "${IDLE_TIMEOUT}s" --
    "$PYTHON" tests/support/llama_server.py --model "$work/tiny.gguf" --port '{port}' --load-delay "$LOAD_DELAY")
say "Starting the gateway"
echo "${command[*]}"
"${command[@]}" >"$work/log" 2>&1 &
balancer=$!
end=$((SECONDS + STEP_MAX))
until curl --silent --fail --noproxy '*' --max-time 5 --output /dev/null "http://$management/health"; do
    kill -0 "$balancer" 2>/dev/null || fail "the gateway ended"
    ((SECONDS < end)) || fail "the gateway does not answer"
    sleep 0.1
done

say "Nothing runs behind it"
[[ $(instances) == 0 ]] || fail "there are $(instances) instances before the first request"
echo "instances: 0"

say "The first request waits until a server has started (it loads for $LOAD_DELAY s)"
ask first
is_less "$LOAD_DELAY" "$(first_byte first)" || fail "the answer came before the server can have loaded"
[[ $(instances) == 1 ]] || fail "there are $(instances) instances after the first request"
echo "first byte after $(first_byte first) s, last after $(last_byte first) s; instances: 1"

say "The second one finds it running"
ask second
is_less "$(last_byte second)" 1 || fail "the second answer took $(last_byte second) s"
echo "first byte after $(first_byte second) s, last after $(last_byte second) s"

say "Nobody asks for $IDLE_TIMEOUT s: back to zero"
rest=$SECONDS
until_instances 0
rest=$((SECONDS - rest))
((rest + 1 >= IDLE_TIMEOUT)) || fail "the instance went away after $rest s already"
echo "instances: 0, after $rest s"

say "Done: zero, $(first_byte first) s to the first answer, $(first_byte second) s to the second, zero again."
