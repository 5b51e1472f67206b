#!/bin/sh
# Makes an authority of your own, and with it the keys of the tracking server and of Dask's
# processes: certificates.sh FOLDER NAME... ; the names are those by which the tracking server is
# reached. What is there already stays. Whoever has dask.key can run code on the workers.
set -eu
folder=$1
shift
umask 077
mkdir -p "$folder"
cd "$folder"

if [ ! -e ca.key ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
        -subj "/CN=imdbtune's own authority" -addext keyUsage=critical,keyCertSign,cRLSign \
        -keyout ca.key -out ca.pem 2>/dev/null
fi

signed() { # NAME SUBJECT_ALT_NAMES
    if [ -e "$1.pem" ]; then return; fi
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
        -subj "/CN=imdbtune $1" -keyout "$1.key" 2>/dev/null |
        openssl x509 -req -days 825 -CA ca.pem -CAkey ca.key -set_serial "0x$(openssl rand -hex 16)" \
            -extfile /dev/fd/3 -out "$1.pem" 2>/dev/null 3<<EXTENSIONS
basicConstraints=critical,CA:FALSE
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
subjectAltName=$2
extendedKeyUsage=serverAuth,clientAuth
EXTENSIONS
}

names=DNS:localhost,IP:127.0.0.1
for name in "$@"; do
    case $name in
    *[!0-9.]*) names=$names,DNS:$name ;;
    *) names=$names,IP:$name ;;
    esac
done
signed tracking "$names"
signed dask DNS:localhost
