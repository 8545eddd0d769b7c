# SPDX-License-Identifier: Apache-2.0
"""Who is let in: tokens, certificates, revocation, and clients that only take place."""
import os
import shutil
import socket
import sqlite3
import ssl

from agents import Connection
from control import ControllerTest
from protect_test import PairTest

BODY = {"protocol": 1, "incarnation": "00000000-0000-4000-8000-000000000000",
        "machine": {"name": "shop"}, "roles": ["source"]}


def exchange(site, folder):
    """(status, code or answer) of one exchange."""
    connection = Connection(site, folder)
    try:
        status, answer = connection.post(BODY)
    finally:
        connection.close()
    return status, answer if status == 200 else answer["error"]["code"]


class Joining(ControllerTest):
    def refused_join(self, machine, token, code):
        folder = os.path.join(self.site.folder, "other")
        done = self.site.try_join(machine, token, folder)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn(code, done.stderr)
        self.assertFalse(os.path.exists(os.path.join(folder, "machine.pem")))

    def test_a_token_is_for_one_machine_once(self):
        token = self.site.token("shop")
        self.refused_join("vault", token, "E_TOKEN")
        folder = self.site.join("shop", token=token)
        self.refused_join("shop", token, "E_TOKEN")
        self.assertEqual(exchange(self.site, folder)[0], 200)
        self.assertEqual(os.stat(os.path.join(folder, "machine.key")).st_mode & 0o077, 0)

    def test_a_token_of_another_site_is_not_spent(self):
        token = self.site.token("shop")
        self.refused_join("shop", token[:-4] + "aaaa", "E_TOKEN_AUTHORITY")
        self.site.join("shop", token=token)

    def test_tokens_expire_and_are_forgotten(self):
        token = self.site.token("shop")
        for _ in range(3):
            self.site.token("other")
        with sqlite3.connect(self.site.database) as database:
            database.execute("UPDATE documents SET body = json_set(body, '$.expires', 1) "
                             "WHERE kind = 'token'")
        database.close()
        self.refused_join("shop", token, "E_TOKEN")
        self.site.token("new")
        database = sqlite3.connect(self.site.database)
        count = database.execute("SELECT count(*) FROM documents WHERE kind = 'token'").fetchone()
        database.close()
        self.assertEqual(count, (1,))


class Certificates(ControllerTest):
    def test_joining_again_replaces_the_certificate(self):
        folder = self.site.join("shop")
        old = folder + "-old"
        shutil.copytree(folder, old)
        self.assertEqual(exchange(self.site, old)[0], 200)
        self.site.join("shop", folder=folder)
        self.assertEqual(exchange(self.site, old), (403, "E_CERTIFICATE_REPLACED"))
        status, answer = exchange(self.site, folder)
        self.assertEqual((status, len(answer["revoked"])), (200, 1))

    def test_revoked_until_it_joins_again(self):
        folder = self.site.join("shop")
        self.assertEqual(self.codes("revoke", "nobody"), ["E_MACHINE_NOT_FOUND"])
        serial = self.ctl("revoke", "shop")["serial"]
        self.assertEqual(self.ctl("revoke", "shop")["serial"], serial)
        self.assertEqual(exchange(self.site, folder), (403, "E_REVOKED"))
        self.assertIn("revoked", self.run_ctl("machines").stdout)
        self.site.kill()
        self.site.start()
        self.assertEqual(exchange(self.site, folder), (403, "E_REVOKED"))
        self.assertEqual(self.codes("protect", "shop", "--target", "shop"),
                         ["E_REVOKED", "E_REVOKED", "E_NOT_A_SOURCE", "E_NOT_A_TARGET"])
        self.site.join("shop", folder=folder)
        status, answer = exchange(self.site, folder)
        self.assertEqual((status, answer["revoked"]), (200, [serial]))

    def test_a_stranger_learns_nothing(self):
        folder = self.site.join("shop")
        connection = Connection(self.site, folder)
        connection.context = ssl._create_unverified_context()
        for path, code in (("/agent/v1/exchange", "E_NO_CERTIFICATE"), ("/v1/state", "E_NOT_FOUND"),
                           ("/v1/token", "E_NOT_FOUND")):
            status, answer = connection.post({}, path)
            self.assertIn(status, (403, 404))
            self.assertEqual(answer["error"]["code"], code)
        connection.close()
        # A machine that another controller's files were put to: the name alone is nothing.
        with sqlite3.connect(self.site.database) as database:
            database.execute("DELETE FROM documents WHERE kind = 'machine'")
        database.close()
        self.assertEqual(exchange(self.site, folder), (403, "E_NOT_JOINED"))


class Revocation(PairTest):
    def test_it_is_passed_on_to_the_others(self):
        self.protect()
        done = self.ctl("revoke", "shop")
        self.assertEqual(done["protections"], ["shop"])
        self.target.told()
        self.assertEqual(self.target.answer["revoked"], [done["serial"]])
        self.source.until(lambda: self.source.refused == "E_REVOKED")
        found = self.site.protection("shop")
        self.assertEqual((found["health"], found["problems"][0]["code"]), ("critical", "E_REVOKED"))
        self.assertIn("ebbctl disable shop --unreachable", self.run_ctl("revoke", "shop").stdout)
        self.assertEqual(self.codes("disable", "shop"), ["E_REVOKED"])
        self.assertEqual(self.ctl("disable", "shop", "--unreachable", "--wait")["state"], "done")


class Clients(PairTest):
    def test_silent_connections_shut_nobody_out(self):
        silent = []
        self.addCleanup(lambda: [s.close() for s in silent])
        for _ in range(300):
            connection = socket.create_connection(("127.0.0.1", self.site.port))
            silent.append(connection)
        self.assertEqual(len(self.ctl("machines")["machines"]), 2)
        self.source.told()  # on the connection that it has
        late = self.site.join("late")
        self.assertEqual(exchange(self.site, late)[0], 200)
        # The ones that have waited longest made place.
        for connection in silent[:20]:
            self.assertEqual(connection.recv(1), b"")
        local = []
        self.addCleanup(lambda: [s.close() for s in local])
        for _ in range(300):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(self.site.socket)
            local.append(connection)
        self.assertEqual(len(self.ctl("machines")["machines"]), 3)
