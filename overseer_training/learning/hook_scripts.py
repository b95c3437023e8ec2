"""What the hooks run in bash, zsh and fish at each prompt: in bash and zsh builtins only, that append one record to a file of the session's own.

A record is a record separator (036), fields that end in a unit separator (037): shell, session, whether it is the session's first, exit
code, directory, and "number time command" as bash's `history` prints it; the time is when the command began. Every error is swallowed, and the exit code that the prompt and
other hooks see stays as it was. `@FOLDER@` and `@SCRIPT@` are quoted paths.
"""

from __future__ import annotations

# The first record of a session shows the last command of the one before: it is written as `first`, and left out later.
BASH = r"""if [ -n "${BASH_VERSION:-}" ] && [ -z "${__overseer_session:-}" ]; then
    __overseer_session="$$-$RANDOM$RANDOM"
    export OVERSEER_SESSION="$__overseer_session"
    __overseer_first=first
    __overseer_spool=@FOLDER@/spool
    if [ -d "${XDG_RUNTIME_DIR:-}" ] && mkdir -p -m 700 "$XDG_RUNTIME_DIR/overseer-training"; then
        __overseer_spool=$XDG_RUNTIME_DIR/overseer-training
    fi 2>/dev/null
    __overseer_prompt() {
        local status=$? consent=
        {
            if [ -r @SCRIPT@ ] && read -r consent < @FOLDER@/consent && [ "$consent" = on ] && [ -d "$__overseer_spool" ]; then
                {
                    builtin printf '\036bash\037%s\037%s\037%s\037%s\037' "$__overseer_session" "$__overseer_first" "$status" "$PWD"
                    HISTTIMEFORMAT='%s ' builtin history 1
                    builtin printf '\037'
                } >> "$__overseer_spool/$__overseer_session"
                __overseer_first=
            fi
        } 2>/dev/null
        return "$status"
    }
    PROMPT_COMMAND="__overseer_prompt${PROMPT_COMMAND:+;$PROMPT_COMMAND}"
fi
"""
ZSH = r"""if [[ -n ${ZSH_VERSION:-} && -z ${__overseer_session:-} ]]; then
    typeset -g __overseer_session="$$-$RANDOM$RANDOM" __overseer_command= __overseer_spool=@FOLDER@/spool
    typeset -gi __overseer_number=0 __overseer_began=0
    export OVERSEER_SESSION="$__overseer_session"
    zmodload zsh/datetime 2>/dev/null
    if [[ -d ${XDG_RUNTIME_DIR:-} ]] && mkdir -p -m 700 "$XDG_RUNTIME_DIR/overseer-training" 2>/dev/null; then
        __overseer_spool=$XDG_RUNTIME_DIR/overseer-training
    fi
    __overseer_preexec() { __overseer_command=$1 __overseer_began=${EPOCHSECONDS:-0} }
    __overseer_precmd() {
        local code=$? consent=
        emulate -L zsh
        [[ -n $__overseer_command ]] || return $code
        {
            if [[ -r @SCRIPT@ ]] && read -r consent < @FOLDER@/consent && [[ $consent == on && -d $__overseer_spool ]]; then
                (( __overseer_number += 1 ))
                builtin printf '\036zsh\037%s\037\037%s\037%s\037%d %d %s\037' "$__overseer_session" $code "$PWD" \
                    $__overseer_number $__overseer_began "$__overseer_command" >>| "$__overseer_spool/$__overseer_session"
            fi
        } 2>/dev/null
        __overseer_command=
        return $code
    }
    autoload -Uz add-zsh-hook && add-zsh-hook preexec __overseer_preexec && add-zsh-hook precmd __overseer_precmd
fi
"""
# fish has no clock of its own, and tells of a full disk whatever is redirected: a small shell writes for it.
FISH = r"""if status is-interactive; and not set -q __overseer_session
    set -g __overseer_session $fish_pid-(random)
    set -gx OVERSEER_SESSION $__overseer_session
    set -g __overseer_number 0
    set -g __overseer_spool @FOLDER@/spool
    if test -d "$XDG_RUNTIME_DIR"; and mkdir -p -m 700 "$XDG_RUNTIME_DIR/overseer-training" 2>/dev/null
        set -g __overseer_spool $XDG_RUNTIME_DIR/overseer-training
    end
    function __overseer_postexec --on-event fish_postexec
        set -l code $status
        set -l took $CMD_DURATION # milliseconds
        test -r @SCRIPT@ -a -r @FOLDER@/consent -a -d $__overseer_spool -a -w $__overseer_spool; or return $code
        set -l consent ''
        read consent < @FOLDER@/consent
        test "$consent" = on; or return $code
        set __overseer_number (math $__overseer_number + 1)
        command sh -c '{ printf "\036fish\037%s\037\037%s\037%s\037%d %d %s\037" "$1" "$2" "$3" "$4" "$(($(date +%s) - ${7:-0} / 1000))" "$5" >> "$6"; } 2>/dev/null' \
            overseer $__overseer_session $code $PWD $__overseer_number "$argv[1]" $__overseer_spool/$__overseer_session "$took"
        return $code
    end
end
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
