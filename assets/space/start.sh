#!/bin/sh
# Starts the app with the options of the environment.
set -euf
umask 077
set -- --host 0.0.0.0 --mcp
for model in ${ADHERE_MODELS:-toybox}; do set -- "$@" --model "$model"; done
for limit in ${ADHERE_LIMITS:-}; do set -- "$@" --limit "$limit"; done
if [ -n "${ADHERE_GALLERY:-}" ]; then set -- "$@" --gallery "$ADHERE_GALLERY"; fi
if [ -n "${ADHERE_PASSWORDS:-}" ]; then
  printf '%s\n' "$ADHERE_PASSWORDS" > "$HOME/passwords"
  set -- "$@" --auth-file "$HOME/passwords"
  unset ADHERE_PASSWORDS
fi
exec adhere app "$@"
