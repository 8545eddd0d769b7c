# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.1
# timeout: 600
# Random operations of all kinds against the module and a model of it (modeltest says which): each
# cut must be one that the model allows. MODEL gives other options, such as --seed N --shrink 120.
read -r -a options <<<"${MODEL:---seeds 1..10 --at-most 45 --cuts 1}"
modeltest --module "$KO" --shrink 120 "${options[@]}" || fail "the model test"
rmmod ebb || fail "rmmod"
