module bytebrew/launcher

go 1.21
