-- The smallest script: main is called for each request, with the environment and the connection.

function main(env, con)
    con:puts("Hello, world!\n")
end
