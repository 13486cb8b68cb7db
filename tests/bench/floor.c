/* The floor: what the kernel alone asks of a FastCGI responder.
 *
 * epoll, and one canned reply to every request, whatever it asks for. It looks at no more of a request than is needed to
 * know where it ends: records of one request at a time, no body. So its CPU time is that of the system calls, which a
 * server that answers over the same connections has to make as well.
 *
 *     floor SOCKET REPLY    listen on the unix socket; REPLY is a file with the STDOUT content: header block and body
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { HEADER = 8, BEGIN_REQUEST = 1, STDIN = 5, STDOUT = 6, END_REQUEST = 3, KEEP_CONN = 1 };
enum { MOST_EVENTS = 64, MOST_DESCRIPTORS = 65536, ROOM = 8192, MOST_REPLY = 60000 };

static unsigned char reply[MOST_REPLY + 4 * HEADER];
static size_t reply_length;
/* Of each connection, by its descriptor: epoll watches it. */
static char watched[MOST_DESCRIPTORS];

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static unsigned char *header(unsigned char *at, int kind, size_t length)
{
    unsigned char record[HEADER] = {1, (unsigned char)kind, 0, 1, (unsigned char)(length >> 8), (unsigned char)length, 0, 0};
    memcpy(at, record, HEADER);
    return at + HEADER;
}

static void read_reply(const char *path)
{
    static unsigned char content[MOST_REPLY];
    FILE *file = fopen(path, "rb");
    if (!file)
        fail(path);
    size_t length = fread(content, 1, MOST_REPLY, file);
    fclose(file);
    unsigned char *at = header(reply, STDOUT, length);
    memcpy(at, content, length);
    at = header(at + length, STDOUT, 0);
    at = header(at, END_REQUEST, 8);
    memset(at, 0, 8);
    reply_length = (size_t)(at + 8 - reply);
}

/* Whether a whole request has come; its flags in `flags`. */
static int whole(const unsigned char *data, size_t length, int *flags)
{
    size_t at = 0;
    while (at + HEADER <= length) {
        size_t content = (size_t)data[at + 4] << 8 | data[at + 5];
        if (data[at + 1] == BEGIN_REQUEST && at + HEADER + 3 <= length)
            *flags = data[at + HEADER + 2];
        if (data[at + 1] == STDIN && content == 0)
            return 1;
        at += HEADER + content + data[at + 6];
    }
    return 0;
}

static void hang_up(int connection)
{
    watched[connection] = 0;
    close(connection);
}

/* One request of a connection, if it has come. A request that comes in parts is none of this program's business. */
static void serve(int poll, int connection)
{
    unsigned char data[ROOM];
    int flags = 0;
    ssize_t length = recv(connection, data, sizeof data, MSG_DONTWAIT);
    if (length == 0 || (length < 0 && errno != EAGAIN)) {
        hang_up(connection);
        return;
    }
    if (length > 0) {
        if (!whole(data, (size_t)length, &flags)
            || send(connection, reply, reply_length, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)reply_length
            || !(flags & KEEP_CONN)) {
            hang_up(connection);
            return;
        }
    }
    if (!watched[connection]) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = connection};
        watched[connection] = 1;
        epoll_ctl(poll, EPOLL_CTL_ADD, connection, &event);
    }
}

int main(int count, char **arguments)
{
    if (count != 3) {
        fprintf(stderr, "usage: floor SOCKET REPLY\n");
        return 2;
    }
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(arguments[1]) >= sizeof address.sun_path) {
        fprintf(stderr, "floor: the path of the socket is too long\n");
        return 2;
    }
    strcpy(address.sun_path, arguments[1]);
    read_reply(arguments[2]);
    int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listening < 0 || bind(listening, (struct sockaddr *)&address, sizeof address) < 0 || listen(listening, 1024) < 0)
        fail(arguments[1]);
    int poll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listening};
    if (poll < 0 || epoll_ctl(poll, EPOLL_CTL_ADD, listening, &event) < 0)
        fail("epoll");
    for (;;) {
        struct epoll_event events[MOST_EVENTS];
        int ready = epoll_wait(poll, events, MOST_EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd != listening) {
                serve(poll, events[i].data.fd);
                continue;
            }
            int connection;
            while ((connection = accept4(listening, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
                if (connection >= MOST_DESCRIPTORS)
                    close(connection);
                else
                    serve(poll, connection);
            }
        }
    }
}
