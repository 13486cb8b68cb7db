ngx.header.content_type = "text/html"
ngx.print("Hello, world!\n")
